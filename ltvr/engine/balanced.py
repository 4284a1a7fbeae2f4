"""Balanced accuracy, in which each class counts alike however many images it has, and its error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["balanced_accuracy", "balanced_accuracy_error", "chosen_by", "mean_of_classes"]


def mean_of_classes(values: Iterable[float | None]) -> float | None:
    """The mean of a value of classes, over those that have it; None where none has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def balanced_accuracy(per_class: Sequence[float | None]) -> float:
    """The mean of the top-1 of the classes that have images: (1/C) sum_k p_k, in percent.

    On a balanced set of images it is the top-1 of all.

    Args:
        per_class: p_k of each class in percent; None for one without images.
    """
    return float(np.mean([each for each in per_class if each is not None]))


def balanced_accuracy_error(per_class: Sequence[float | None], images: npt.ArrayLike) -> float:
    """The standard error of ``balanced_accuracy``: sqrt(sum_k p_k (1 - p_k) / n_k) / C, in points.

    The binomial error of each class, over the C classes that have images. It is of the images that
    happened to be drawn; another seed of the training moves the accuracy besides. A class of which
    all or none are right adds nothing, so that with few images it is too small.

    Args:
        per_class: p_k of each class in percent; None for one without images.
        images: [C] n_k, the images of each class.
    """
    shares = [
        (p / 100, n)
        for p, n in zip(per_class, np.asarray(images).tolist(), strict=True)
        if p is not None
    ]
    variance = sum(p * (1 - p) / n for p, n in shares)
    return float(100 * np.sqrt(variance) / len(shares))


def chosen_by(record: dict[str, Any]) -> float:
    """What ``--select best`` chooses an epoch by, in percent; the first of equal ones is the best.

    Top-1 of all images; of a hold-out, whose classes have not the same number of images and are to
    count alike, balanced accuracy.

    Args:
        record: of an epoch that was evaluated.
    """
    of = "balanced_accuracy" if record["evaluated_on"] == "hold-out" else "all"
    score: float = record["eval"][of]
    return score
