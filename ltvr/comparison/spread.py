"""What several seeds have: the mean, and how far they are from one another."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

__all__ = ["Spread"]


@dataclass(frozen=True)
class Spread:
    """Values of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation; None of one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None
