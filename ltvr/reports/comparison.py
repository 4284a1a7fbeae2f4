"""A comparison of runs: as a text table, as CSV by class, and as one self-contained page."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from matplotlib.figure import Figure

from ltvr.comparison.entries import Group, differences
from ltvr.comparison.gains import Gain, Row
from ltvr.engine.accuracy_table import SUBSETS, columns
from ltvr.engine.accuracy_table import heading as accuracy_heading
from ltvr.errors import shown
from ltvr.figures.style import QUIET, axes, bars, class_axis, colour, styled, whole_numbers
from ltvr.reports.html import drawing, render, short
from ltvr.reports.numbers import signed
from ltvr.stages import STAGES

__all__ = ["by_class", "heading", "page", "table", "write_by_class"]

SHOWN = ("balanced_accuracy", *SUBSETS)
"""What is shown of the accuracies, where there is such a one."""
LEVEL = 0.05
"""Below it a corrected p-value is one to name a class for."""
CLASSES_TO_LIST = 100
CLASSES_TO_NAME = 10
LIMITS = {
    "seeds": "Over {number} seeds: paired t-test, two-sided; after ± half of the 95 % interval. It "
    "takes the differences to be about normal. With two to five seeds only gains that are large "
    "beside their spread can show, and p above 0.05 does not say that there is no gain. n/a where "
    "all differences are the same.",
    "images": "Over {number} {on} images: McNemar's exact test, two-sided, of the images that one "
    "of the two networks alone has right. It says whether these two networks differ on images like "
    "these, not whether the methods do: another seed may turn it around.",
    "nothing": "One run each, and no test: that over images was left out.",
}
PAGE = """
<ul>{% for label, runs, colour in legend %}
<li><span style="color: {{ colour }}">&#9632;</span> {{ label }}:
{% for run in runs %}{{ run }}{{ "" if loop.last else "; " }}{% endfor %}</li>{% endfor %}</ul>
{% for note in notes %}<p>{{ note }}</p>{% endfor %}
{% for heading, rows in tables %}<h2>{{ heading }}</h2><div class="wide">
<table><tr><th>{{ top_1 }}</th>{% for h in heads %}<th>{{ h }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr><td style="white-space: pre">{{ name }}</td>
{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</table></div>{% endfor %}
{% for limit in limits %}<p>{{ limit }}</p>{% endfor %}
<h2>Configuration</h2>{% if options %}<p>The options that differ, of those in use.</p>
<div class="wide"><table><tr><th>option</th>
{% for label, runs, colour in legend %}<th>{{ label }}</th>{% endfor %}</tr>
{% for name, cells in options %}<tr><td>{{ name }}</td>
{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</table></div>
{% else %}<p>No option in use differs.</p>{% endif %}
<h2>Curves</h2><p>By epoch, a row a stage, a line a run.</p>
{{ curves }}
{% if classes %}<h2>Gain by class</h2><p>In points of top-1, classes by falling number of training
images. Full colour where p is below {{ level }}, corrected for the number of classes (Holm).</p>
{% endif %}
{% for heading, summary, figure, rows, more in classes %}<h3>{{ heading }}</h3><p>{{ summary }}</p>
{{ figure }}
<details><summary>Table</summary>
{% if more %}<p>{{ more }} more classes are left out here.</p>{% endif %}<div class="wide">
<table><tr><th>class</th><th>training images</th><th>before</th><th>after</th><th>gain</th>
<th>95 % interval, or images won, lost</th><th>p (Holm)</th></tr>
{% for name, cells in rows %}<tr><td>{{ name }}</td>
{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</table></div></details>
{% endfor %}
<h2>Commands</h2><pre>{{ commands }}</pre>
"""


def heading(stages: tuple[str, str]) -> str:
    """The name of the stage that is compared, or of the two."""
    before, after = (STAGES.get(stage).title for stage in stages)
    return after if before == after else f"{after}, over {before}"


def shots_of(first: Group) -> dict[str, str]:
    """What accuracies are of, and the headings: of a hold-out the balanced accuracy, too."""
    shown_here = columns(first.entries[0].judged_on)
    return {name: shown_here[name] for name in shown_here if name in SHOWN}


def lines(gain: Gain, first: Group) -> list[tuple[str, list[str]]]:
    """Rows of a table of one gain: before, after, gain, test; a cell for each of ``shots_of``."""
    rows = [gain.shots[shot] for shot in shots_of(first)]
    seeds = [[str(pair[side].seed) for pair in gain.pairs] for side in (0, 1)]
    names = [
        f"{group.label}, seed{'s' if len(of) > 1 else ''} {' '.join(of)}"
        for group, of in zip((first, gain.group), seeds, strict=True)
    ]
    found = [
        (names[0], [_percent(row.before) for row in rows]),
        (names[1], [_percent(row.after) for row in rows]),
        ("  gain", [_gain(row) for row in rows]),
    ]
    if gain.over == "images":
        found.append(("  images won, lost", [_spread(row) for row in rows]))
        found.append(
            (f"  p of these two networks, {gain.number} images", [_p(row) for row in rows])
        )
    elif gain.over == "seeds":
        found.append(("  95 % interval", [_spread(row) for row in rows]))
        found.append((f"  p, {gain.number} seeds", [_p(row) for row in rows]))
    return found


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _gain(row: Row) -> str:
    return "n/a" if row.gain is None else signed(row.gain)


def _spread(row: Row) -> str:
    if row.won is not None:
        return f"{row.won}, {row.lost}"
    return "n/a" if row.half is None else f"± {row.half:.2f}"


def _p(row: Row) -> str:
    return "n/a" if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"


def by_class(gain: Gain, classes: Sequence[str]) -> str:
    """Which classes are better and worse by more than chance, in a line."""
    of = sum(row.p is not None for row in gain.classes)
    if not of:
        return "Classes were not tested."
    told = [(k, row) for k, row in enumerate(gain.classes) if row.p is not None and row.p < LEVEL]
    better, worse = (
        [short(classes[k]) for k, row in told if (row.gain or 0) * sign > 0] for sign in (1, -1)
    )
    said = [
        f"{what} in {', '.join(names[:CLASSES_TO_NAME])}{', ...' * (len(names) > CLASSES_TO_NAME)}"
        for what, names in (("better", better), ("worse", worse))
        if names
    ]
    number = f"{len(told)} of {of} classes differ (p < {LEVEL}, Holm)"
    return "; ".join([number, *said])


def blocks(first: Group, gains: Sequence[Gain]) -> dict[str, list[tuple[str, list[str]]]]:
    """The rows of all gains by stage; what is compared with is there once for the same seeds."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for gain in gains:
        rows = found.setdefault(heading(gain.stages), [])
        before, *others = lines(gain, first)
        rows += others if before in rows else [before, *others]
    return found


def table(first: Group, gains: Sequence[Gain], classes: Sequence[str]) -> str:
    """All gains as text, stage by stage; empty if there are none."""
    parts = []
    for stage, rows in blocks(first, gains).items():
        width = max(24, *(len(name) + 2 for name, _ in rows))
        shown_rows = [(stage, list(shots_of(first).values())), *rows]
        text = [
            f"{name:<{width}}" + "".join(f"{c:>12}" for c in cells) for name, cells in shown_rows
        ]
        of = [gain for gain in gains if heading(gain.stages) == stage]
        text += [f"{gain.group.label}: {by_class(gain, classes)}" for gain in of]
        parts.append("\n".join(text))
    return "\n\n".join(parts)


def write_by_class(
    file: IO[str], first: Group, gains: Sequence[Gain], classes: Sequence[str], counts: list[int]
) -> None:
    """Write a row a class of every gain: CSV, as RFC 4180 has it."""
    writer = csv.writer(file)
    columns = ["before", "after", "gain", "half_interval", "won", "lost", "p_holm"]
    writer.writerow(["runs", "over", "stage", "class", "train_images", *columns])
    for gain in gains:
        for name, count, row in zip(classes, counts, gain.classes, strict=True):
            values = [
                "" if value is None else value if isinstance(value, int) else f"{value:.6g}"
                for value in row
            ]
            label = [gain.group.label, first.label, heading(gain.stages)]
            writer.writerow([*label, name, count, *values])


# ---- the page ----


def page(groups: Sequence[Group], gains: Sequence[Gain], notes: Sequence[str]) -> str:
    """The page: gains and tests, configuration, curves, gains by class.

    Args:
        groups: the first is what the others are compared with.
        gains: of the others over it.
        notes: what else a person should know, a line each.
    """
    first = groups[0]
    manifest = first.entries[0].manifest
    classes, counts = manifest["classes"], np.asarray(manifest["train_counts"])
    colours = {id(group): colour(number) for number, group in enumerate(groups)}
    entries = [entry for group in groups for entry in group.entries]
    tests = dict.fromkeys((gain.over, gain.number) for gain in gains)
    return render(
        PAGE,
        title=f"{', '.join(group.label for group in groups[1:])} against {first.label}",
        legend=[
            (g.label, [shown(e.run.folder) for e in g.entries], colours[id(g)]) for g in groups
        ],
        notes=notes,
        top_1=accuracy_heading(first.entries[0].judged_on),
        heads=list(shots_of(first).values()),
        tables=list(blocks(first, gains).items()),
        limits=[
            LIMITS[over].format(number=number, on=first.entries[0].judged_on)
            for over, number in tests
        ],
        options=_options(groups),
        curves=drawing(_curves(groups)),
        level=LEVEL,
        classes=[
            (
                f"{gain.group.label}, {heading(gain.stages)}",
                by_class(gain, classes),
                drawing(_by_class(gain, counts, colours[id(gain.group)])),
                _class_rows(gain, classes, counts),
                max(len(classes) - CLASSES_TO_LIST, 0),
            )
            for gain in gains
        ],
        commands="\n".join(shown(entry.run.command()) for entry in entries),
    )


def _options(groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """The options that differ between runs, and their values in each group."""
    entries = [entry for group in groups for entry in group.entries]
    starts = [0, *itertools.accumulate(len(group.entries) for group in groups)]
    return [
        (name, [" ".join(dict.fromkeys(values[a:b])) for a, b in itertools.pairwise(starts)])
        for name, values in differences(entries).items()
    ]


def _class_rows(
    gain: Gain, classes: Sequence[str], counts: np.ndarray
) -> list[tuple[str, list[str]]]:
    """The largest classes: training images, before, after, gain, its spread, p."""
    rows = []
    for k in np.argsort(-counts, kind="stable")[:CLASSES_TO_LIST].tolist():
        row = gain.classes[k]
        cells = [str(counts[k]), _percent(row.before), _percent(row.after)]
        rows.append((short(classes[k]), [*cells, _gain(row), _spread(row), _p(row)]))
    return rows


@styled
def _curves(groups: Sequence[Group]) -> Figure:
    """Training loss and accuracies by epoch of every run, a row of panels a stage."""
    entries = [(number, entry) for number, group in enumerate(groups) for entry in group.entries]
    stages = list(dict.fromkeys(r["stage"] for _, entry in entries for r in entry.records))
    shots = {
        shot: name
        for shot, name in shots_of(groups[0]).items()
        if any(_measured(e.records, shot)[0] for _, e in entries)
    }
    figure, panels = axes(1 + len(shots), max(len(stages), 1), width=2.3, height=2.0)
    for row, stage in zip(panels, stages, strict=False):
        for number, entry in entries:
            records = [record for record in entry.records if record["stage"] == stage]
            line = {"color": colour(number), "lw": 1.2, "marker": "." if len(records) == 1 else ""}
            losses = [np.nan if (v := r["real_loss"]) is None else v for r in records]
            row[0].plot([r["epoch"] for r in records], losses, **line)
            for axis, shot in zip(row[1:], shots, strict=True):
                axis.plot(*_measured(records, shot), **line)
        last = max(r["epoch"] for _, e in entries for r in e.records if r["stage"] == stage)
        for axis in row:
            axis.set(xlabel="epoch", xlim=(0.5, last + 0.5))
            whole_numbers(axis)
        row[0].set_ylabel(STAGES.get(stage).title)
    evaluated = sorted({r["evaluated_on"] for _, entry in entries for r in entry.records})
    on = " and ".join(evaluated)
    names = ["training loss", *(f"{name}, {on}, %" for name in shots.values())]
    for axis, name in zip(panels[0], names, strict=True):
        axis.set_title(name)
    return figure


def _measured(records: list[dict[str, Any]], shot: str) -> tuple[list[int], list[float]]:
    """Epochs and accuracies of the records that have one."""
    found = [(r["epoch"], r["eval"].get(shot)) for r in records if r["eval"] is not None]
    known = [(epoch, value) for epoch, value in found if value is not None]
    return [epoch for epoch, _ in known], [value for _, value in known]


@styled
def _by_class(gain: Gain, counts: np.ndarray, colour: str) -> Figure:
    """The gain of every class; pale where chance would do it."""
    order = np.argsort(-counts, kind="stable")
    rows = [gain.classes[k] for k in order]
    values = np.asarray([row.gain or 0.0 for row in rows])
    told = np.asarray([row.p is not None and row.p < LEVEL for row in rows])
    figure, panels = axes(1, width=9.0, height=2.2)
    axis = panels[0, 0]
    bars(axis, np.where(told, 0.0, values), color=colour, alpha=0.35)
    bars(axis, np.where(told, values, 0.0), color=colour)
    axis.axhline(0, color=QUIET, lw=0.8)
    class_axis(axis, len(values))
    axis.set_ylabel("gain, points")
    return figure
