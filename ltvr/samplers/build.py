"""A sampler that gives way to another."""

from __future__ import annotations

import numpy as np

from ltvr.config.options import NoOptions
from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import Sampler, Shares

__all__ = ["Deferred"]


class Deferred(Sampler):
    """One sampler, and from an epoch on another: deferred re-sampling (DRS).

    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS
    2019, with the start as a share of the epochs (0.8: epoch 160 of 200).

    Args:
        first, then: the samplers.
        start: share of the epochs from which on it is ``then``.
    """

    def __init__(self, first: Sampler, then: Sampler, start: float) -> None:
        super().__init__(NoOptions())
        self.first, self.then, self.start = first, then, start

    def order(
        self, labels: Int64Array, random: np.random.Generator, epoch: int, epochs: int
    ) -> Int64Array:
        """That of the epoch's sampler."""
        return self._at(epoch, epochs).order(labels, random, epoch, epochs)

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """Those of the epoch's sampler."""
        return self._at(epoch, epochs).shares(counts, epoch, epochs)

    def _at(self, epoch: int, epochs: int) -> Sampler:
        return self.then if epoch >= round(self.start * epochs) else self.first
