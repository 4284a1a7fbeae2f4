"""Square-root sampling."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import Sampler, Shares

__all__ = ["SquareRoot"]


class SquareRoot(Sampler):
    """p_k ~ sqrt(n_k), the samples of a class with replacement (Kang et al., ICLR 2020)."""

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """sqrt(n_k), of sum 1."""
        weights = np.sqrt(counts)
        shares: Shares = weights / weights.sum()
        return shares
