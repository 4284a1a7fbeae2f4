"""The interface of a sampler: the order of an epoch is a pure function of its seed and number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ltvr.config.options import Options
from ltvr.config.slots import Component
from ltvr.data.longtail import Int64Array

__all__ = ["ByClass", "Sampler", "Shares", "draw_classes", "in_cycles"]

Shares = npt.NDArray[np.float64]


class Sampler(Component):
    """Chooses the samples of an epoch, as many as there are samples.

    A subclass states ``shares``, and ``order`` where samples are not drawn independently. Resuming
    is exact, since nothing is remembered between epochs.

    Args:
        options: of the class's own ``options_type``.
    """

    def __init__(self, options: Options) -> None:
        pass

    def order(self, labels: Int64Array, seed: int, epoch: int, epochs: int) -> Int64Array:
        """Indices of the samples of one epoch, in order: [n], n being the number of samples.

        By default each is drawn by itself, its class by ``shares``, with replacement.

        Args:
            labels: [n] class of each sample; a class may have none.
            seed: of all random numbers, with the epoch.
            epoch, epochs: e, from 0, and E.
        """
        by_class, random = ByClass.of(labels), np.random.default_rng([seed, epoch])
        return draw_classes(by_class, self.shares(by_class.counts, epoch, epochs), random)

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """p_k, how much of epoch e each class is: [C], of sum 1.

        Args:
            counts: [C] samples of each class; one without any has the share 0.
            epoch, epochs: e, from 0, and E.
        """
        raise NotImplementedError

    def epoch(self, labels: npt.ArrayLike, *, seed: int, epoch: int, epochs: int) -> Int64Array:
        """``order``, held to what it promises.

        Raises:
            TypeError: an order that is not of as many samples as there are.
        """
        labels = np.asarray(labels)
        order = self.order(labels, seed, epoch, epochs)
        if order.shape != labels.shape:
            raise TypeError(
                f"{type(self).__name__}.order gave shape {list(order.shape)} for {len(labels)} "
                "samples: expected as many indices as there are samples"
            )
        return order


class ByClass(NamedTuple):
    """The samples of each class that has any."""

    counts: Int64Array
    """Samples of each such class."""
    samples: Int64Array
    """Indices of all samples, class after class."""

    @classmethod
    def of(cls, labels: Int64Array) -> ByClass:
        """Sort the samples by class."""
        _, counts = np.unique(labels, return_counts=True)
        return cls(counts, np.argsort(labels, kind="stable"))

    @property
    def members(self) -> list[Int64Array]:
        """The samples of each class."""
        return np.split(self.samples, self.starts[1:])

    @property
    def starts(self) -> Int64Array:
        """Where each class begins in ``samples``."""
        return np.cumsum(self.counts) - self.counts


def in_cycles(samples: Int64Array, number: int, random: np.random.Generator) -> Int64Array:
    """``number`` of the samples: all of them in shuffled order, then all again in another."""
    laps = -(-number // len(samples))
    if laps == 0:
        return samples[:0]
    return np.concatenate([random.permutation(samples) for _ in range(laps)])[:number]


def draw_classes(
    by_class: ByClass, p: Shares, random: np.random.Generator, cycles: bool = False
) -> Int64Array:
    """As many samples as there are: a class by ``p``, then one of its samples.

    Args:
        cycles: each class's samples come in shuffled cycles, instead of with replacement.
    """
    drawn = random.choice(len(by_class.counts), size=len(by_class.samples), p=p)
    if cycles:
        order = np.empty(len(drawn), np.int64)
        for k, own in enumerate(by_class.members):
            rows = np.flatnonzero(drawn == k)
            order[rows] = in_cycles(own, len(rows), random)
        return order
    within = (random.random(len(drawn)) * by_class.counts[drawn]).astype(np.int64)
    indices: Int64Array = by_class.samples[by_class.starts[drawn] + within]
    return indices
