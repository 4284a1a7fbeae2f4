"""Numbers as tables have them, where what is not there is an empty cell; and times."""

from __future__ import annotations

from ltvr.comparison.spread import Spread

__all__ = ["duration", "number", "plain", "signed", "spread", "spread_of_gains"]

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


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), list[str]()
    for name, length in units:
        if left >= length and len(parts) < 2:
            parts.append(f"{left // length} {name}")
            left %= length
        elif parts:
            break
    return " ".join(parts) or "less than a second"


def _deviation(of: Spread) -> str:
    return "" if of.deviation is None else f" ± {of.deviation:.2f}"
