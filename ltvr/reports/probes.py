"""Tables of what probes found, of one run or of several side by side: Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ltvr.engine.accuracy_table import COLUMNS, SUBSETS
from ltvr.errors import shown
from ltvr.probes.lines import Line, Section
from ltvr.probes.probed import Probed
from ltvr.probes.rows import ALONE
from ltvr.reports.numbers import number

__all__ = ["as_csv", "as_json", "as_markdown", "as_summary"]

EVERY_CLASS = "mean over all classes"
MAIN = (
    ("frozen", "", "accuracy", "accuracy, {}"),
    ("head", "", "accuracy", "accuracy of the head: {}"),
    ("neighbours", "embedding", " nearest: own class", "neighbours of the own class: {}"),
    ("apart", "embedding", "told apart", "told apart: {}"),
    ("parts", "pooled", "accuracy", "the class from {}, linear probe"),
    ("mask", "", "one fixed pattern", "variance of the mask that is one fixed pattern"),
)
"""What a summary has: section, space, how the measure ends, and what it is called of which rows."""
EVERY = (
    "All, Many, Medium, Few: the mean over the classes of a subset, each class counting alike; n/a "
    "where none has such rows."
)


def as_markdown(runs: Sequence[Probed], figures: Sequence[str]) -> str:
    """A section a probe: its table, how it was measured, and its figures.

    Args:
        figures: paths of the PNG files, relative to the text, each of a section's name.
    """
    several = len(runs) > 1
    lines = [
        f"# {'What runs have learnt' if several else f'What {_cell(runs[0].name)} has learnt'}",
        "",
    ]
    for run in runs:
        lines += [f"- {_prefix(run, several)}{note}" for note in run.notes]
    lines += [f"- {EVERY}", ""]
    for name in dict.fromkeys(section.name for run in _longest(runs) for section in run.sections):
        sections = {id(run): _section(run, name) for run in runs}
        first = next(section for section in sections.values() if section is not None)
        lines += [f"## {first.title}", ""]
        table = _table(runs, name)
        lines += [*table, ""] if table else []
        for run in runs:
            if (section := sections[id(run)]) is not None:
                lines += [f"- {_prefix(run, several)}{found}" for found in section.found]
        lines += [f"- {formula}" for formula in first.formulas]
        lines += ["", *(f"![{first.title}]({path})" for path in figures if _of(path) == name), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def as_summary(runs: Sequence[Probed]) -> list[str]:
    """The main figures in a few lines for a terminal, a column a run: means over all classes."""
    rows: dict[str, dict[int, str]] = {}
    for run in _longest(runs):
        for name, space, ending, called in MAIN:
            section = _section(run, name)
            for line in [] if section is None else section.lines:
                if line.space == space and line.measure.endswith(ending) and ALONE not in line.of:
                    label = _measure(called.format(line.of), line.unit)
                    mean = _number(line.means["all"], line.unit)
                    rows.setdefault(label, {})[id(run)] = mean
    width = max(map(len, [*rows, EVERY_CLASS]))
    widths = [max(len(run.name), 6) for run in runs]
    table = {EVERY_CLASS: {id(run): run.name for run in runs}} | rows
    return [
        "  ".join([
            f"{label:{width}}",
            *(f"{own.get(id(run), ''):>{w}}" for run, w in zip(runs, widths, strict=True)),
        ]).rstrip()
        for label, own in table.items()
    ]  # fmt: skip


def as_csv(runs: Sequence[Probed]) -> str:
    """A line a measure and run (RFC 4180), with four digits; empty where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["run", "probe", "space", "measure", "rows", "unit", *SUBSETS])
    for run in runs:
        for section in run.sections:
            for line in section.lines:
                numbers = [number(line.means[subset]) for subset in SUBSETS]
                writer.writerow(
                    [run.name, section.name, line.space, line.measure, line.of, line.unit, *numbers]
                )
    return text.getvalue()


def as_json(run: Probed) -> dict[str, Any]:
    """Everything of one run, with the values of each class."""
    return {
        "run": run.name,
        **run.described,
        "notes": run.notes,
        "probes": {
            section.name: {
                "title": section.title,
                "formulas": section.formulas,
                "found": section.found,
                **section.details,
                "lines": [line._asdict() for line in section.lines],
            }
            for section in run.sections
        },
    }


def _table(runs: Sequence[Probed], name: str) -> list[str]:
    """The lines of a section of all runs: those of one measure below each other."""
    found: dict[tuple[str, str, str], dict[int, Line]] = {}
    for run in _longest(runs):
        section = _section(run, name)
        for line in [] if section is None else section.lines:
            found.setdefault((line.space, line.measure, line.of), {})[id(run)] = line
    if not found:
        return []
    spaced = any(space for space, _, _ in found)
    head = [*(["space"] if spaced else []), "measure", "of", *(["run"] if len(runs) > 1 else [])]
    columns = [COLUMNS[subset] for subset in SUBSETS]
    text = [
        f"| {' | '.join([*head, *columns])} |",
        f"|{'---|' * len(head)}{'--:|' * len(columns)}",
    ]
    for (space, measure, of), lines in found.items():
        for run, line in ((run, lines[id(run)]) for run in runs if id(run) in lines):
            cells = [*([space] if spaced else []), _measure(measure, line.unit), of]
            cells += [run.name] if len(runs) > 1 else []
            numbers = [_number(line.means[subset], line.unit) for subset in SUBSETS]
            text.append(f"| {' | '.join([*map(_cell, cells), *numbers])} |")
    return text


def _longest(runs: Sequence[Probed]) -> list[Probed]:
    """First those of which most is known: they have all sections and lines in their order."""
    return sorted(runs, key=lambda run: -sum(len(section.lines) for section in run.sections))


def _measure(measure: str, unit: str) -> str:
    return f"{measure}, {unit}" if unit else measure


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "n/a"
    return f"{value:.1f}" if unit == "%" else f"{value:.3f}"


def _cell(text: str) -> str:
    return shown(text).replace("|", "\\|")


def _prefix(run: Probed, several: bool) -> str:
    return f"{_cell(run.name)}: " if several else ""


def _section(run: Probed, name: str) -> Section | None:
    return next((section for section in run.sections if section.name == name), None)


def _of(path: str) -> str:
    """The section of a figure."""
    return path.rpartition("/")[2].partition(".")[0]
