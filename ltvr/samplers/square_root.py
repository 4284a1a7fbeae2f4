"""Square-root sampling."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, draw_classes

__all__ = ["SquareRoot"]


class SquareRoot(Sampler):
    """p_k ~ sqrt(n_k), the samples of a class with replacement (Kang et al., ICLR 2020)."""

    def order(
        self, labels: Int64Array, random: np.random.Generator, epoch: int, epochs: int
    ) -> Int64Array:
        """As many draws as there are samples."""
        by_class = ByClass.of(labels)
        weights = np.sqrt(by_class.counts)
        return draw_classes(by_class, weights / weights.sum(), random)
