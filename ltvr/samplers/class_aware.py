"""Class-balanced sampling in cycles over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, Shares

__all__ = ["ClassAware", "ClassAwareOptions"]

PER_CLASS = 4


@dataclass(frozen=True)
class ClassAwareOptions(Options):
    """Class-balanced sampling."""

    class_aware_draw: Literal["cycles", "multinomial"] = option(
        "cycles", "classes and their images in shuffled cycles, or both drawn with replacement"
    )


class ClassAware(Sampler):
    """p_k = 1 / C (eq. 8), by cycles: the classes in shuffled order, 4 samples of each in a row.

    Each class's samples come in shuffled laps of their own, which go on from epoch to epoch, so
    that none comes again before all have come; a class with fewer than 4 repeats. As
    ``ClassAwareSampler`` of Kang et al., Decoupling Representation and Classifier, ICLR 2020.
    ``multinomial`` draws every sample by itself, with replacement, as BagofTricks-LT does (and, by
    weights that are nearly even, LDAM-DRW).
    """

    options_type = ClassAwareOptions

    def __init__(self, options: ClassAwareOptions) -> None:
        super().__init__(options)
        self.draw = options.class_aware_draw

    def order(self, labels: Int64Array, seed: int, epoch: int, epochs: int) -> Int64Array:
        """The cycles, or the draws, of one epoch."""
        if self.draw == "multinomial":
            return super().order(labels, seed, epoch, epochs)
        members = ByClass.of(labels).members
        visits = -(-len(labels) // PER_CLASS)
        whole, part = divmod(visits, len(members))

        def begun(epoch: int) -> tuple[np.random.Generator, Int64Array]:
            """The random numbers of an epoch, and the classes of the cycle that it cuts short."""
            random = np.random.default_rng([seed, epoch])
            return random, random.permutation(len(members))[:part]

        before = np.full(len(members), epoch * whole)  # visits of each class in earlier epochs
        for earlier in range(epoch):
            before[begun(earlier)[1]] += 1
        random, last = begun(epoch)
        cycles = random.permuted(np.tile(np.arange(len(members)), (whole, 1)), axis=1)
        turns = np.concatenate([cycles.reshape(-1), last])
        order = np.empty((visits, PER_CLASS), np.int64)
        times = np.bincount(turns, minlength=len(members))
        places = np.split(np.argsort(turns, kind="stable"), np.cumsum(times)[:-1])
        for k, (own, rows) in enumerate(zip(members, places, strict=True)):
            taken = _in_laps(own, int(before[k]) * PER_CLASS, len(rows) * PER_CLASS, [seed, k])
            order[rows] = taken.reshape(-1, PER_CLASS)
        return order.reshape(-1)[: len(labels)]

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """1 / C for every class that has samples."""
        present = counts > 0
        shares: Shares = present / present.sum()
        return shares


def _in_laps(samples: Int64Array, start: int, number: int, seed: list[int]) -> Int64Array:
    """``number`` of endless laps over the samples, each in its own order, from ``start`` on."""
    size = len(samples)
    laps = range(start // size, -(-(start + number) // size))
    # Behind 0, as the random numbers of [s, k] and of [s, k, 0] are the same.
    orders = [np.random.default_rng([*seed, lap + 1]).permutation(samples) for lap in laps]
    return np.concatenate([samples[:0], *orders])[start % size :][:number]
