"""Times of the command line, as types of its arguments."""

from __future__ import annotations

import argparse
import math
import re

from ltvr.errors import brief

__all__ = ["minutes", "seconds"]


def minutes(text: str) -> float | None:
    """Minutes, in seconds; None for 0.

    Raises:
        argparse.ArgumentTypeError: no number, or one below 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{brief(text)}: expected minutes, 0 or more")
    return value * 60 or None


def seconds(text: str) -> float:
    """A time like 3:50:00, 1-12:00:00 (days), 90m or 5400, in seconds.

    Raises:
        argparse.ArgumentTypeError: another form, or no time at all.
    """
    value = 0.0
    if match := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text, re.ASCII):
        days, hours, mins, secs = (float(part or 0) for part in match.groups())
        value = ((days * 24 + hours) * 60 + mins) * 60 + secs
    elif match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text, re.ASCII):
        value = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{brief(text)}: expected a time above 0 like 3:50:00, 90m or 5400 (seconds)"
        )
    return value
