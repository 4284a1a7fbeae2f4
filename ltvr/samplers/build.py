"""Two samplers as one: one after the other, or each for half of every batch."""

from __future__ import annotations

import numpy as np

from ltvr.clock import first_epoch, mix
from ltvr.config.options import NoOptions
from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import Sampler, Shares

__all__ = ["Deferred", "Halves"]


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

    def order(self, labels: Int64Array, seed: int, epoch: int, epochs: int) -> Int64Array:
        """That of the epoch's sampler."""
        return self._at(epoch, epochs).order(labels, seed, epoch, epochs)

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """Those of the epoch's sampler."""
        return self._at(epoch, epochs).shares(counts, epoch, epochs)

    def _at(self, epoch: int, epochs: int) -> Sampler:
        return self.then if epoch >= first_epoch(self.start, epochs) else self.first


class Halves(Sampler):
    """Batches of which the first half is of one sampler and the second of another.

    Two epochs are one of each sampler, whose laps over the samples so go on.

    Args:
        first, second: the samplers.
        size: of a half.
    """

    def __init__(self, first: Sampler, second: Sampler, size: int) -> None:
        super().__init__(NoOptions())
        self.first, self.second, self.size = first, second, size

    def order(self, labels: Int64Array, seed: int, epoch: int, epochs: int) -> Int64Array:
        """As many of each, by turns; what is left after the last whole batch is of the first."""
        orders = [  # the second by a seed of its own, or both would draw alike
            self.first.order(labels, seed, *_whole(epoch, epochs)),
            self.second.order(labels, mix(seed, 1), *_whole(epoch, epochs)),
        ]
        batches = len(labels) // (2 * self.size)
        used = batches * self.size
        halves = [order[epoch % 2 * used :][:used].reshape(batches, -1) for order in orders]
        return np.concatenate([np.concatenate(halves, axis=1).reshape(-1), orders[0][2 * used :]])

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """Those of the first, which is what is classified."""
        return self.first.shares(counts, *_whole(epoch, epochs))


def _whole(epoch: int, epochs: int) -> tuple[int, int]:
    """The epoch of a sampler of which an epoch of halves takes half, and how many there are."""
    return epoch // 2, -(-epochs // 2)
