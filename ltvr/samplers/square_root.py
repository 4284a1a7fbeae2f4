"""Square-root sampling."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, Shares, draw_classes

__all__ = ["SquareRoot"]


class SquareRoot(Sampler):
    """p_k ~ sqrt(n_k), the samples of a class with replacement (Kang et al., ICLR 2020)."""

    def order(
        self, labels: Int64Array, random: np.random.Generator, epoch: int, epochs: int
    ) -> Int64Array:
        """As many draws as there are samples."""
        by_class = ByClass.of(labels)
        return draw_classes(by_class, self.shares(by_class.counts, epoch, epochs), random)

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """sqrt(n_k), of sum 1."""
        weights = np.sqrt(counts)
        shares: Shares = weights / weights.sum()
        return shares
