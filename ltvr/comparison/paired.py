"""Tests of paired gains: over seeds of two configurations, or over the images of two networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["ImageTest", "SeedTest", "holm", "over_images", "over_seeds"]

ROUNDING = 4
"""Decimals of a difference in percent that count: what is below is of float32, and no image."""


class SeedTest(NamedTuple):
    """A gain over several seeds."""

    gain: float
    """Mean of the differences."""
    half: float | None
    """The 95 % interval is ``gain`` - ``half`` to ``gain`` + ``half``; None where all differences
    are the same."""
    p: float | None
    """Of Student's t, two-sided; None where all differences are the same, and not 0."""


class ImageTest(NamedTuple):
    """A gain over the same images."""

    won: int
    """Images that only the second network has right."""
    lost: int
    """Images that only the first has right."""
    p: float
    """Of McNemar's test in its exact form, two-sided."""


def over_seeds(before: Sequence[float], after: Sequence[float]) -> SeedTest:
    """The paired t-test of two configurations, a value in percent for each of the same seeds.

    Two to five seeds are few. A test without the assumption that differences are normal, by
    flipping their signs, cannot give less than p = 2 / 2^n there: 0.5, 0.25, 0.125, 0.0625. So it
    is the t-test, which is sharper if they are about normal, and says little if they are not.
    Where all differences are equal, as may be on small test sets, their spread is not known.

    Raises:
        ValueError: fewer than two seeds, or unequal numbers.
    """
    differences = np.round(np.subtract(after, before), ROUNDING)
    if len(before) != len(after) or len(differences) < 2:
        raise ValueError(f"{len(before)} and {len(after)} values: expected a pair for each seed")
    gain, number = float(differences.mean()), len(differences)
    if (differences == differences[0]).all():
        return SeedTest(gain, None, None if differences[0] else 1.0)
    error = float(differences.std(ddof=1)) / math.sqrt(number)
    half = float(stats.t.ppf(0.975, number - 1)) * error
    return SeedTest(gain, half, float(2 * stats.t.sf(abs(gain) / error, number - 1)))


def over_images(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> ImageTest:
    """McNemar's exact test: of the images that one network alone has right, is it half each?

    Args:
        before, after: [n] whether each of the same images is classified correctly.

    Raises:
        ValueError: of unequal lengths.
    """
    if before.shape != after.shape:
        raise ValueError(f"{len(before)} and {len(after)} images: expected the same ones")
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    p = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    return ImageTest(won, lost, float(p))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number: those below 0.05 hold together with a risk of 0.05.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979. None stays None, and does
    not count.
    """
    known = sorted((p, k) for k, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, k) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[k] = largest
    return corrected
