"""The columns of an accuracy table, and the table as text."""

from __future__ import annotations

from typing import Any

__all__ = ["COLUMNS", "SHOTS", "SUBSETS", "cells", "columns", "heading", "table"]

SHOTS = ("many", "medium", "few")
SUBSETS = ("all", *SHOTS)
"""Of the classes, by their training images."""
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
OF_A_HOLD_OUT = {"balanced_accuracy": "balanced", "balanced_accuracy_error": "± s.e."}
"""What it shows first of a hold-out, whose classes have not the same number of images."""


def columns(judged_on: str = "test") -> dict[str, str]:
    """What the table of metrics on this split shows, and the headings."""
    return {**OF_A_HOLD_OUT, **COLUMNS} if judged_on == "hold-out" else COLUMNS


def heading(judged_on: str = "test") -> str:
    """What the numbers of a table are."""
    return "top-1, hold-out, %" if judged_on == "hold-out" else "top-1, %"


def cells(metrics: dict[str, Any], judged_on: str = "test") -> list[str]:
    """Format the columns of one row of an accuracy table; n/a where there is nothing to measure."""
    values = [metrics[name] for name in columns(judged_on)]
    return ["n/a" if value is None else f"{value:.2f}" for value in values]


def table(rows: dict[str, dict[str, Any]], judged_on: str = "test") -> str:
    """Format the accuracy table of named rows of metrics on one split, as text."""
    heads = list(columns(judged_on).values())
    lines = [(heading(judged_on), heads), *((n, cells(m, judged_on)) for n, m in rows.items())]
    width = max(16, *(len(name) + 2 for name, _ in lines))
    return "\n".join(f"{name:<{width}}" + "".join(f"{c:>10}" for c in row) for name, row in lines)
