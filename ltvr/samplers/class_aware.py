"""Class-balanced sampling in cycles over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, Shares, in_cycles

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

    Each class's samples come in shuffled cycles of their own; a class with fewer than 4 repeats.
    As ``ClassAwareSampler`` of Kang et al., Decoupling Representation and Classifier, ICLR 2020.
    ``multinomial`` draws every sample by itself, with replacement, as BagofTricks-LT does (and, by
    weights that are nearly even, LDAM-DRW).
    """

    options_type = ClassAwareOptions

    def __init__(self, options: ClassAwareOptions) -> None:
        super().__init__(options)
        self.draw = options.class_aware_draw

    def order(
        self, labels: Int64Array, random: np.random.Generator, epoch: int, epochs: int
    ) -> Int64Array:
        """The cycles, or the draws, of one epoch."""
        if self.draw == "multinomial":
            return super().order(labels, random, epoch, epochs)
        members = ByClass.of(labels).members
        visits = -(-len(labels) // PER_CLASS)
        cycles = -(-visits // len(members))
        turn = np.concatenate([random.permutation(len(members)) for _ in range(cycles)])[:visits]
        order = np.empty((visits, PER_CLASS), np.int64)
        for k, own in enumerate(members):
            rows = np.flatnonzero(turn == k)
            taken = in_cycles(own, len(rows) * PER_CLASS, random)
            order[rows] = taken.reshape(-1, PER_CLASS)
        return order.reshape(-1)[: len(labels)]

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """1 / C for every class that has samples."""
        present = counts > 0
        shares: Shares = present / present.sum()
        return shares
