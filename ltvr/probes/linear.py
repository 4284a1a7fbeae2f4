"""A linear probe: multinomial logistic regression, its strength chosen by cross-validation."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ltvr.data.longtail import Int64Array

__all__ = ["STRENGTHS", "LinearProbe", "linear_probe"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C, the weight of the sum of the losses beside ``|W|^2 / 2``."""
FOLDS = 3
MOST_STEPS = 300
"""Of L-BFGS."""

Floats = npt.NDArray[np.float32]


class LinearProbe(NamedTuple):
    """What a linear probe says."""

    predicted: Int64Array
    """[T] classes of the rows that it was asked about."""
    strength: float
    """C, as chosen."""
    validation: dict[str, float]
    """Balanced accuracy of the folds, their mean, in percent, by C; empty where none was chosen."""
    converged: bool

    @property
    def described(self) -> dict[str, Any]:
        """How it came about, in terms of JSON."""
        return {"C": self.strength, "validation": self.validation, "converged": self.converged}


def linear_probe(rows: Tensor, labels: Int64Array, asked: Tensor, seed: int) -> LinearProbe:
    """Fit a linear probe, and ask it of other rows.

    Minimise ``C sum_r u_r (-log softmax(W x_r + b)_{y_r}) + |W|^2 / 2``, the x standardised by mean
    and standard deviation of ``rows``, ``u_r = R / (classes n_{y_r})``: every class weighs the
    same. C is the best of ``STRENGTHS`` by balanced accuracy over ``FOLDS`` stratified folds of
    ``rows``, of equals the lowest; where a class has fewer rows than folds there are as many folds
    as it has rows, and with one row C is the middle of ``STRENGTHS``.

    Args:
        rows: [R, F], that it is fitted to.
        labels: [R].
        asked: [T, F].
        seed: of the folds.
    """
    from sklearn.model_selection import StratifiedKFold  # two seconds

    mean, spread = rows.mean(0), rows.std(0, correction=0)
    spread = spread.where(spread > 0, 1.0)
    x, z = (((each - mean) / spread).numpy() for each in (rows, asked))
    folds = min(FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    strength, validation = STRENGTHS[len(STRENGTHS) // 2], {}
    if folds > 1:
        found = np.zeros((folds, len(STRENGTHS)))
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(x, labels)
        for number, (fitted, held) in enumerate(parts):
            fits = _path(x[fitted], labels[fitted], STRENGTHS, x[held])
            for at, (predicted, _) in enumerate(fits):
                found[number, at] = _balanced(predicted, labels[held])
        means = found.mean(0)
        strength = STRENGTHS[int(np.argmax(means))]
        validation = {f"{c:g}": mean for c, mean in zip(STRENGTHS, means.tolist(), strict=True)}
    *_, (predicted, converged) = _path(x, labels, tuple(c for c in STRENGTHS if c <= strength), z)
    return LinearProbe(predicted, strength, validation, converged)


def _path(
    x: Floats, labels: Int64Array, strengths: tuple[float, ...], asked: Floats
) -> list[tuple[Int64Array, bool]]:
    """Fits of rising C, each from the one before; what they predict, and whether they converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=MOST_STEPS, warm_start=True)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is in what is returned
        for strength in strengths:
            model.set_params(C=strength).fit(x, labels)
            converged = int(model.n_iter_.max()) < MOST_STEPS
            found.append((model.predict(asked).astype(np.int64), converged))
    return found


def _balanced(predicted: Int64Array, labels: Int64Array) -> float:
    """The mean over the classes of the share that is right, in percent."""
    right = predicted == labels
    return 100 * float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))
