"""Training images that hyper-parameters are chosen on, where there is no validation split."""

from __future__ import annotations

import numpy as np

from ltvr.clock import stream
from ltvr.data.longtail import Int64Array

__all__ = ["hold_out"]


def hold_out(labels: Int64Array, per_class: int, seed: int) -> Int64Array:
    """Positions of as many images of each class as can be spared: [h], ascending.

    At most half of a class, since what trains without them still has to know the class: of 5
    images 2, and none of one image; none at all where every class has one.

    Args:
        labels: [n] class of each training image.
        per_class: images of a class at most.
        seed: of the run.
    """
    random = np.random.default_rng(stream(seed, "hold-out"))
    held = []
    for k in np.unique(labels):
        own = np.flatnonzero(labels == k)
        held.append(random.permutation(own)[: min(per_class, len(own) // 2)])
    return np.sort(np.concatenate(held)).astype(np.int64)
