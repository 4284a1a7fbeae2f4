"""Lines for whoever runs a command; of several ranks the first prints them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ltvr import distributed
from ltvr.errors import shown

__all__ = ["say", "say_notes"]


def say(line: str) -> None:
    """Print a line on stdout: what is being done, and what came out."""
    if distributed.is_first():
        print(line, flush=True)


def say_notes(notes: Iterable[str]) -> None:
    """Print lines on stderr, so that results stay alone: what a person should know beside them."""
    for note in notes if distributed.is_first() else ():
        print(shown(note), file=sys.stderr, flush=True)
