"""Progressively balanced sampling."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, draw_classes

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
        share = epoch / epochs
        p = (1 - share) * by_class.counts / len(labels) + share / len(by_class.counts)
        return draw_classes(by_class, p, random)
