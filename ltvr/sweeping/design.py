"""The points of a sweep: a grid, or scrambled Sobol points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import qmc

__all__ = ["Range", "grid", "sobol"]

DIGITS = 4
"""Significant ones of a number that is drawn; a person can read it, and type it."""


@dataclass(frozen=True)
class Range:
    """Numbers that one is drawn from."""

    low: float
    high: float
    log: bool = False
    """Whether even in the logarithm, and not in the number itself."""
    whole: bool = False

    def at(self, u: float) -> int | float:
        """The number at ``u``, from 0 (the lowest) to 1 (the highest)."""
        if self.whole:  # each of them has the same share
            low, high = self.low - 0.5, self.high + 0.5
            return min(max(round(self._between(low, high, u)), int(self.low)), int(self.high))
        value = float(f"{self._between(self.low, self.high, u):.{DIGITS}g}")
        return min(max(value, self.low), self.high)

    def _between(self, low: float, high: float, u: float) -> float:
        if self.log:
            return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        return low + u * (high - low)


def grid(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of some options; the last option changes fastest."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def sobol(
    dimensions: Mapping[str, Range | Sequence[Any]], points: int, seed: int
) -> list[dict[str, Any]]:
    """The first ``points`` of scrambled Sobol points: even over all dimensions together.

    More of the same seed and dimensions are these, and others after them. They are most even where
    their number is a power of two.

    Args:
        dimensions: a range, or values of which each has the same share.
        seed: of the scrambling.
    """
    drawn = qmc.Sobol(len(dimensions), seed=seed).random_base2(math.ceil(math.log2(points)))
    return [
        {name: _at(of, float(u)) for (name, of), u in zip(dimensions.items(), row, strict=True)}
        for row in drawn[:points]
    ]


def _at(of: Range | Sequence[Any], u: float) -> Any:
    return of.at(u) if isinstance(of, Range) else of[min(int(u * len(of)), len(of) - 1)]
