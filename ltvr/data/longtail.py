"""Long-tailed subsets of balanced data: LDAM-DRW's, index for index."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "CIFAR",
    "Int64Array",
    "imagenet_lt_counts",
    "longtail_counts",
    "longtail_indices",
    "shot_of",
]

Int64Array = npt.NDArray[np.int64]
CIFAR = {"cifar10": (10, 5000), "cifar100": (100, 500)}
"""Classes, and training images of each, of the balanced data sets."""


def longtail_counts(
    n_max: int, classes: int, imbalance: float, kind: Literal["exp", "step", "none"] = "exp"
) -> list[int]:
    """Images to keep of each class, in label order.

    ``exp``: int(n_max (1/IR)^(k/(C-1))); ``step``: the first half n_max, the rest n_max/IR;
    ``none``: n_max each.

    Raises:
        ValueError: an imbalance below 1.
    """
    if imbalance < 1:
        raise ValueError(f"imbalance = {imbalance}: expected largest : smallest class, at least 1")
    if kind == "none" or classes == 1:
        return [n_max] * classes
    if kind == "exp":
        return [int(n_max * (1 / imbalance) ** (k / (classes - 1.0))) for k in range(classes)]
    head = classes // 2
    return [n_max] * head + [int(n_max * (1 / imbalance))] * (classes - head)


def longtail_indices(labels: npt.ArrayLike, counts: list[int], data_seed: int = 0) -> Int64Array:
    """Indices of the subset, class by class: the first n_k of each class's shuffled indices.

    One legacy ``RandomState(data_seed)`` shuffles the ascending indices of class 0, 1, ... in
    turn, as the field's public CIFAR-LT does; NumPy's global state is not touched. A class with
    fewer images than asked keeps all it has.
    """
    labels = np.asarray(labels)
    random = np.random.RandomState(data_seed)  # the field's subset is this stream
    chosen = []
    for k, n in enumerate(counts):
        indices = np.flatnonzero(labels == k)
        random.shuffle(indices)
        chosen.append(indices[:n])
    return np.concatenate(chosen).astype(np.int64)


@cache
def imagenet_lt_counts() -> tuple[int, ...]:
    """Training images of each class of ImageNet-LT, by label: 115,846 in all, 1,280 to 5."""
    path = Path(__file__).parent / "imagenet_lt_counts.txt"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return tuple(int(word) for line in lines for word in line.split())


def shot_of(count: int, many_above: int, few_below: int) -> str:
    """``many``, ``medium`` or ``few``, by the training images of the class."""
    return "many" if count > many_above else "few" if count < few_below else "medium"
