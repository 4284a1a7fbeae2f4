"""The columns of an accuracy table, and the table as text."""

from __future__ import annotations

from typing import Any

__all__ = ["COLUMNS", "SHOTS", "cells", "table"]

SHOTS = ("many", "medium", "few")
COLUMNS = {
    "all": "All",
    "many": "Many",
    "medium": "Medium",
    "few": "Few",
    "macro_f1": "macro-F1",
    "worst_class": "worst",
    "calibration_error": "ECE",
}
"""What an accuracy table shows, and its heading."""


def cells(metrics: dict[str, Any]) -> list[str]:
    """Format the columns of one row of an accuracy table; n/a where there is nothing to measure."""
    return ["n/a" if metrics[name] is None else f"{metrics[name]:.2f}" for name in COLUMNS]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Format the accuracy table of named rows, as text."""
    lines = [("top-1, %", list(COLUMNS.values())), *((n, cells(m)) for n, m in rows.items())]
    width = max(16, *(len(name) + 2 for name in rows))
    return "\n".join(f"{name:<{width}}" + "".join(f"{c:>10}" for c in row) for name, row in lines)
