"""Instance-balanced sampling."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import Sampler, Shares

__all__ = ["Instance"]


class Instance(Sampler):
    """Each sample once, shuffled: p_k = n_k / N (eq. 7)."""

    def order(self, labels: Int64Array, seed: int, epoch: int, epochs: int) -> Int64Array:
        """A permutation of all samples."""
        return np.random.default_rng([seed, epoch]).permutation(len(labels))

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """n_k / N."""
        shares: Shares = counts / counts.sum()
        return shares
