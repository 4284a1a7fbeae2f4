"""A page of tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["markdown"]


def markdown(title: str, tables: Iterable[Sequence[Sequence[str]]], notes: Iterable[str]) -> str:
    """A title, tables, and notes below them.

    Args:
        tables: each a row of heads, then rows of as many cells; the first column is to the left.
    """
    lines = [f"# {title}", ""]
    for heads, *rows in tables:
        lines += [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"
