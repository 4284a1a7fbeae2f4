"""Numbers as tables have them; what is not there is an empty cell."""

from __future__ import annotations

from ltvr.comparison.spread import Spread

__all__ = ["number", "plain", "signed", "spread", "spread_of_gains"]

MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """For a program."""
    return "" if value is None else f"{value:.4f}"


def plain(value: float | None, digits: int = 1) -> str:
    """A percentage."""
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference."""
    return "" if value is None else f"{value:+.{digits}f}".replace("-", MINUS)


def spread(of: Spread | None) -> str:
    """Percentages of several seeds: their mean ± their sample standard deviation."""
    return "" if of is None else f"{of.mean:.2f}{_deviation(of)}"


def spread_of_gains(of: Spread | None) -> str:
    """The same of differences."""
    return "" if of is None else f"{signed(of.mean)}{_deviation(of)}"


def _deviation(of: Spread) -> str:
    return "" if of.deviation is None else f" ± {of.deviation:.2f}"
