"""Class-balanced sampling in cycles over the classes."""

from __future__ import annotations

import numpy as np

from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, Shares

__all__ = ["ClassAware"]

PER_CLASS = 4


class ClassAware(Sampler):
    """p_k = 1 / C (eq. 8), by cycles: the classes in shuffled order, 4 samples of each in a row.

    Each class's samples come in shuffled cycles of their own; a class with fewer than 4 repeats.
    As ``ClassAwareSampler`` of Kang et al., Decoupling Representation and Classifier, ICLR 2020.
    """

    def order(
        self, labels: Int64Array, random: np.random.Generator, epoch: int, epochs: int
    ) -> Int64Array:
        """The cycles of one epoch."""
        by_class = ByClass.of(labels)
        members = np.split(by_class.samples, by_class.starts[1:])
        visits = -(-len(labels) // PER_CLASS)
        cycles = -(-visits // len(members))
        turn = np.concatenate([random.permutation(len(members)) for _ in range(cycles)])[:visits]
        order = np.empty((visits, PER_CLASS), np.int64)
        for k, own in enumerate(members):
            rows = np.flatnonzero(turn == k)
            laps = -(-len(rows) * PER_CLASS // len(own))
            if laps:
                shuffled = np.concatenate([random.permutation(own) for _ in range(laps)])
                order[rows] = shuffled[: len(rows) * PER_CLASS].reshape(-1, PER_CLASS)
        return order.reshape(-1)[: len(labels)]

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """1 / C for every class that has samples."""
        present = counts > 0
        shares: Shares = present / present.sum()
        return shares
