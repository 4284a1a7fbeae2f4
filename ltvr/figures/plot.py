"""A figure with the numbers that are in it, and its files."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ltvr.figures.style import render
from ltvr.runs.files import replacing
from ltvr.runs.files import write as replace_text

__all__ = ["Plot", "write"]


@dataclass(frozen=True)
class Plot:
    """A figure, and what it shows as numbers."""

    figure: Figure
    tables: dict[str, list[dict[str, Any]]]
    """Rows of the CSV beside the figure, by what its name ends in; ``""`` is the first."""
    notes: list[str] = field(default_factory=list)
    """What a caption says in numbers, a line each."""


def write(plot: Plot, path: Path) -> list[Path]:
    """Write ``path.svg``, ``.png``, ``.csv`` (``path-NAME.csv``) and the notes as ``path.txt``.

    Returns:
        The paths of what was written; without notes there is no ``path.txt``.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    written = []
    for kind in ("svg", "png"):
        written.append(path.with_name(f"{path.name}.{kind}"))
        with replacing(written[-1]) as partial:
            partial.write_bytes(render(plot.figure, kind))
    for name, rows in plot.tables.items():
        written.append(path.with_name(f"{path.name}{name and f'-{name}'}.csv"))
        with (
            replacing(written[-1]) as partial,
            partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
    if plot.notes:
        written.append(path.with_name(f"{path.name}.txt"))
        replace_text(written[-1], "".join(f"{note}\n" for note in plot.notes))
    return written
