"""The order of training samples: a pure function of (seed, epoch), so that resuming is exact."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ltvr.data.longtail import Int64Array

__all__ = ["epoch_order"]

PER_CLASS = 4


def epoch_order(
    sampler: str, labels: npt.ArrayLike, *, seed: int, epoch: int, epochs: int
) -> Int64Array:
    """Indices of the samples of one epoch, as many as there are samples.

    - ``instance``: each sample once, shuffled (eq. 7).
    - ``class-aware``: cycles through the shuffled classes, 4 samples a class in a row, each
      class's samples in shuffled cycles (a class with fewer than 4 repeats).
    - ``square-root``: classes drawn with p_k ~ sqrt(n_k).
    - ``progressive``: p = (1 - e/E) n_k/N + (e/E)/C.

    Args:
        labels: [n] class of each sample; classes without samples are passed over.
        epoch, epochs: e and E.

    Raises:
        ValueError: an unknown sampler.
    """
    labels = np.asarray(labels)
    random = np.random.default_rng([seed, epoch])
    n = len(labels)
    if sampler == "instance":
        return random.permutation(n)
    classes, counts = np.unique(labels, return_counts=True)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    if sampler == "class-aware":
        return _class_aware(by_class, n, random)
    if sampler == "square-root":
        weights = np.sqrt(counts)
        p = weights / weights.sum()
    elif sampler == "progressive":
        share = epoch / epochs
        p = (1 - share) * counts / n + share / len(classes)
    else:
        raise ValueError(
            f"sampler = {sampler!r}: expected instance, class-aware, square-root or progressive"
        )
    drawn = random.choice(len(classes), size=n, p=p)
    within = (random.random(n) * counts[drawn]).astype(np.int64)
    starts = np.cumsum(counts) - counts
    return np.argsort(labels, kind="stable")[starts[drawn] + within]


def _class_aware(by_class: list[Int64Array], n: int, random: np.random.Generator) -> Int64Array:
    visits = -(-n // PER_CLASS)
    cycles = -(-visits // len(by_class))
    turn = np.concatenate([random.permutation(len(by_class)) for _ in range(cycles)])[:visits]
    order = np.empty((visits, PER_CLASS), np.int64)
    for k, members in enumerate(by_class):
        rows = np.flatnonzero(turn == k)
        laps = -(-len(rows) * PER_CLASS // len(members))
        if laps:
            shuffled = np.concatenate([random.permutation(members) for _ in range(laps)])
            order[rows] = shuffled[: len(rows) * PER_CLASS].reshape(-1, PER_CLASS)
    return order.reshape(-1)[:n]
