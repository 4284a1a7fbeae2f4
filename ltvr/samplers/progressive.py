"""Progressively balanced sampling."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, Shares, draw_classes

__all__ = ["Progressive"]


class Progressive(Sampler):
    """p_k = (1 - e/E) n_k/N + (e/E)/C, the samples of a class with replacement.

    After Kang et al., ICLR 2020, whose formula has t/T; their code ends at e/(E - 1) = 1.
    """

    def order(
        self, labels: Int64Array, random: np.random.Generator, epoch: int, epochs: int
    ) -> Int64Array:
        """As many draws as there are samples."""
        by_class = ByClass.of(labels)
        return draw_classes(by_class, self.shares(by_class.counts, epoch, epochs), random)

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """The mixture of epoch e."""
        share, present = epoch / epochs, counts > 0
        p: Shares = (1 - share) * counts / counts.sum() + share / present.sum() * present
        return p
