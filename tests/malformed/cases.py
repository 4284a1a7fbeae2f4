"""What a case is, and which case an index and a seed give."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator


@dataclass(frozen=True)
class Attempt:
    """What is tried: a command with its arguments, or a call from Python."""

    main: Any
    """A module of ltvr with a ``main``, or a function."""
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a case is made: an empty folder, which is the current one, and a finished run."""

    folder: Path
    finished: Path

    def run(self) -> Path:
        """A copy of the finished run, to spoil."""
        ignored = shutil.ignore_patterns("tensorboard", "report.html", "best.pt")
        return shutil.copytree(self.finished, self.folder / "run", ignore=ignored)


@dataclass(frozen=True)
class Kind:
    """One way to be malformed; what is left open is drawn at random."""

    name: str
    make: Callable[[Random, Place], Attempt]


KINDS: dict[str, Kind] = {}


def kind(name: str = "") -> Callable[[Any], Any]:
    """Declare a kind by the function that makes a case of it."""

    def declare(make: Callable[[Random, Place], Attempt]) -> Any:
        called = name or make.__name__
        assert called not in KINDS, called
        KINDS[called] = Kind(called, make)
        return make

    return declare


def drawn(seed: int, index: int) -> tuple[Kind, Random]:
    """The kind of a case and its random numbers: every kind comes once before one comes twice."""
    order = np.random.default_rng(seed).permutation(len(KINDS))
    names = list(KINDS)
    return KINDS[names[order[index % len(order)]]], np.random.default_rng([seed, index])


def pick(random: Random, *values: Any) -> Any:
    """One of ``values``, as it is."""
    return values[random.integers(len(values))]
