"""A table as Markdown, CSV and a page: the paper's numbers, ours, gains, claims, what lacks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltvr.comparison.spread import Spread
from ltvr.engine.accuracy_table import COLUMNS, SUBSETS
from ltvr.errors import by_reason, shown
from ltvr.reports.html import render
from ltvr.reports.markdown import markdown
from ltvr.reports.numbers import number, plain, signed, spread, spread_of_gains
from ltvr.reports.writing import write_forms
from ltvr.reproduction.catalogue import Setting, Table
from ltvr.reproduction.comparison import Line, Verdict

__all__ = ["Report", "write"]

HEADS = (
    "top-1, %", "seeds", "All, paper", "All, ours", "ours \N{MINUS SIGN} paper", "gain, paper",
    "gain, ours", "Many, paper", "Many, ours", "Medium, paper", "Medium, ours", "Few, paper",
    "Few, ours",
)  # fmt: skip
CLAIMS = ("claim", "paper", "ours", "here")
PAGE = """
{% for table in tables %}
<div class="wide"><table><tr>{% for h in table[0] %}<th>{{ h }}</th>{% endfor %}</tr>
{% for cells in table[1:] %}<tr>{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}
<ul>{% for note in notes %}<li>{{ note }}</li>
{% endfor %}</ul>
"""


@dataclass(frozen=True)
class Report:
    """A table that is ready to be written."""

    table: Table
    lines: Sequence[Line]
    verdicts: Sequence[Verdict]
    setting: Setting
    about: Sequence[str]
    """How it was made, a line each."""

    @property
    def title(self) -> str:
        """The table's; it says so where the data are not the paper's."""
        own = self.setting.dataset in self.table.datasets.get("paper", ())
        if own and not self.setting.differs:
            return self.table.title
        return f"{self.table.title}. Here: {self.setting.described}"


def write(report: Report, path: Path) -> list[Path]:
    """Write ``path`` with the endings .md, .csv and .html; return them.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    texts = {
        "md": markdown(report.title, _tables(report), _notes(report)),
        "csv": _csv(report.lines),
        "html": render(
            PAGE, title=report.title, tables=list(_tables(report)), notes=_notes(report)
        ),
    }
    return write_forms(path, texts)


def _tables(report: Report) -> Iterator[list[Sequence[str]]]:
    """The rows and the claims, each with its heads first, without columns that nothing is in."""
    for heads, rows in (
        (HEADS, [_cells(line) for line in report.lines]),
        (CLAIMS, [_claim(verdict) for verdict in report.verdicts]),
    ):
        filled = [at for at in range(len(heads)) if any(row[at] for row in rows)]
        if rows:
            yield [[row[at] for at in filled] for row in (heads, *rows)]


def _cells(line: Line) -> list[str]:
    ours, paper = line.ours("all"), line.paper.get("all")
    cells = [line.row.label, str(len(line.by_seed) or ""), plain(paper), spread(ours)]
    cells += [signed(line.difference), signed(line.paper_gain, 1), spread_of_gains(line.gains)]
    for name in SUBSETS[1:]:
        cells += [plain(line.paper.get(name)), spread(line.ours(name))]
    return cells


def _claim(verdict: Verdict) -> list[str]:
    claim = verdict.claim
    column = "" if claim.column == "all" else f" ({COLUMNS[claim.column]})"
    text = f"{claim.above} is above {claim.below}{column}"
    return [text, signed(verdict.paper, 1), spread_of_gains(verdict.ours), verdict.verdict]


def _notes(report: Report) -> list[str]:
    shown_over: dict[str, list[str]] = {}
    for shows, label in report.table.over.items():
        shown_over.setdefault(label, []).append(shows)
    over = "; ".join(f"{label} for {', '.join(shows)}" for label, shows in shown_over.items())
    notes = [
        "Ours: mean ± sample standard deviation of the seeds. Gain: on All, paired by seed, over "
        f"{over}.",
        *report.table.notes,
    ]
    if report.verdicts:
        notes.append(
            "A claim holds, or the opposite does, where the 95 % interval of the difference leaves "
            "out 0: Student's t, over the paired seeds. Of one seed it is taken that its runs vary "
            "as those rows of the stage do that have several."
        )
    missing = (each for line in report.lines for each in line.missing.items())
    notes += [
        f"Missing, {shown(why)}: {', '.join(names)}." for why, names in by_reason(missing).items()
    ]
    return [*notes, *report.about]


def _csv(lines: Sequence[Line]) -> str:
    """A line a row (RFC 4180), every number in a field of its own."""
    text = io.StringIO()
    writer = csv.writer(text)
    of = [f"{name}_{what}" for name in SUBSETS for what in ("paper", "mean", "deviation")]
    gain = ["gain_over", "gain_paper", "gain_mean", "gain_deviation"]
    writer.writerow(["row", "run", "shows", "seeds", *of, *gain, "difference", "all_by_seed"])
    for line in lines:
        numbers: list[float | None] = []
        for name in SUBSETS:
            numbers += [line.paper.get(name), *_of(line.ours(name))]
        by_seed = " ".join(number(metrics["all"]) for metrics in line.by_seed.values())
        gains = [line.paper_gain, *_of(line.gains)]
        writer.writerow([
            line.row.label, line.row.run, line.row.shows, " ".join(map(str, line.by_seed)),
            *map(number, numbers), line.over, *map(number, gains), number(line.difference),
            by_seed,
        ])  # fmt: skip
    return text.getvalue()


def _of(values: Spread | None) -> list[float | None]:
    return [None, None] if values is None else [values.mean, values.deviation]
