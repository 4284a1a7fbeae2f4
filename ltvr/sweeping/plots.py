"""Figures of a sweep: accuracy by the value of an option, a map of two, gains of the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator

from ltvr.figures.plot import Plot
from ltvr.figures.plot import write as write_plot
from ltvr.figures.style import INK, QUIET, axes, colour, styled
from ltvr.sweeping.configurations import Design, said
from ltvr.sweeping.plan import METRICS
from ltvr.sweeping.results import Line, Rung
from ltvr.sweeping.tables import by_score, gain, reference

__all__ = ["draw"]

MOST_GAINS = 30
"""Configurations of a figure of gains; those of the highest scores."""


def draw(design: Design, rungs: Sequence[Rung], folder: Path) -> list[Path]:
    """Draw what is there, and return the files: SVG, PNG, and the numbers as CSV.

    ``values``: the score of each configuration by the value of each option that is swept, of the
    first rung, on which all of them are. ``map``: the same of two options, where all points are a
    grid of them. ``gains``: of the last rung, over the arm that gains are over.
    """
    first = [line for line in rungs[0].lines if line.score is not None]
    plots: dict[str, Plot] = {}
    swept = [line for line in first if line.configuration.point]
    if swept:
        over = reference(design, rungs[0])
        plots["values"] = _values(design, swept, None if over is None else over.score)
        if len(design.sweep.swept) == 2 and design.sweep.how == "grid":
            plots["map"] = _map(design, swept)
    rung = next((each for each in reversed(rungs) if list(_gains(design, each))), None)
    if rung is not None:
        plots["gains"] = _drawn_gains(design, rung)
    return [
        path for name, plot in plots.items() for path in write_plot(plot, folder / f"sweep-{name}")
    ]


@styled
def _values(design: Design, lines: Sequence[Line], level: float | None) -> Plot:
    """A panel an option, a colour an arm; of a grid a line through the best at each value.

    Args:
        level: the score of the configuration that gains are over, as a line, where there is one.
    """
    sweep = design.sweep
    figure, panels = axes(len(sweep.swept), sharey=True)
    arms = list(dict.fromkeys(line.configuration.arm.name for line in lines))
    rows: list[dict[str, Any]] = []
    for axis, name in zip(panels[0], sweep.swept, strict=True):
        marks = _marks([line.configuration.point[name] for line in lines])
        for number, arm in enumerate(arms):
            own = [line for line in lines if line.configuration.arm.name == arm]
            places = [marks[said(line.configuration.point[name])] for line in own]
            scores = [_score(line) for line in own]
            spreads = [_deviation(line) for line in own]
            style = {"color": colour(number), "marker": "os^D"[number % 4], "markersize": 4}
            axis.errorbar(places, scores, spreads, linestyle="", label=arm, capsize=2, **style)
            if sweep.how == "grid":
                best = [max(s for p, s in zip(places, scores, strict=True) if p == place)
                        for place in sorted(set(places))]  # fmt: skip
                axis.plot(sorted(set(places)), best, color=colour(number))
            rows += [
                {"option": name, "value": said(line.configuration.point[name]), "arm": arm,
                 "configuration": line.configuration.label, "score": f"{score:.4f}",
                 "deviation": f"{spread:.4f}" if len(line.found) > 1 else ""}
                for line, score, spread in zip(own, scores, spreads, strict=True)
            ]  # fmt: skip
        axis.set_xlabel(name)
        values = [line.configuration.point[name] for line in lines]
        if _numbers(values) and _by_factors(values):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
        if not _numbers(values) or sweep.how == "grid":
            axis.set_xticks(list(marks.values()), list(marks))
        if level is not None:
            axis.axhline(level, color=QUIET, linestyle="--", label=sweep.compare_with)
    panels[0, 0].set_ylabel(f"{METRICS[sweep.metric]}, %")
    panels[0, 0].legend()
    return Plot(figure, {"": rows})


@styled
def _map(design: Design, lines: Sequence[Line]) -> Plot:
    """A panel an arm: one option down, the other across, the score as colour and as number."""
    down, across = design.sweep.swept
    arms = list(dict.fromkeys(line.configuration.arm.name for line in lines))
    marks = [_places([line.configuration.point[name] for line in lines]) for name in (down, across)]
    figure, panels = axes(len(arms))
    scores = [_score(line) for line in lines]
    rows: list[dict[str, Any]] = []
    for axis, arm in zip(panels[0], arms, strict=True):
        table = np.full([len(each) for each in marks], np.nan)
        for line in lines:
            if line.configuration.arm.name == arm:
                values = [said(line.configuration.point[name]) for name in (down, across)]
                at = [marks[k][value] for k, value in enumerate(values)]
                table[at[0], at[1]] = _score(line)
                rows.append({"arm": arm, down: values[0], across: values[1],
                             "score": f"{_score(line):.4f}"})  # fmt: skip
        axis.imshow(table, cmap="viridis", vmin=min(scores), vmax=max(scores), aspect="auto")
        for (y, x), score in np.ndenumerate(table):
            if np.isfinite(score):
                light = score > (min(scores) + max(scores)) / 2
                axis.text(x, y, f"{score:.1f}", ha="center", va="center",
                          color="black" if light else "white")  # fmt: skip
        axis.set_xticks(range(len(marks[1])), list(marks[1]))
        axis.set_yticks(range(len(marks[0])), list(marks[0]))
        axis.set(xlabel=across, ylabel=down, title=arm)
    return Plot(figure, {"": rows}, [f"Numbers and colours: {METRICS[design.sweep.metric]}, %."])


def _gains(design: Design, rung: Rung) -> Iterator[tuple[Line, float, float | None]]:
    for line in by_score(rung):
        found = gain(design, rung, line)
        if found is not None and line.score is not None:
            yield line, found.mean, found.half


@styled
def _drawn_gains(design: Design, rung: Rung) -> Plot:
    """The paired gain of each configuration, and of several seeds its 95 % interval."""
    found = list(_gains(design, rung))[:MOST_GAINS]
    figure, panels = axes(1, width=5.0, height=0.9 + 0.28 * len(found))
    axis = panels[0, 0]
    axis.axvline(0.0, color=QUIET, linewidth=1)
    for place, (_, mean, half) in enumerate(found):
        axis.errorbar([mean], [place], xerr=None if half is None else [half], marker="o",
                      color=colour(0), ecolor=INK, capsize=3)  # fmt: skip
    axis.set_yticks(range(len(found)), [line.configuration.label for line, *_ in found])
    axis.invert_yaxis()
    axis.set_xlabel(f"gain in {METRICS[design.sweep.metric]} over {design.sweep.compare_with}")
    rows = [
        {"configuration": line.configuration.label, "gain": f"{mean:.4f}",
         "half": "" if half is None else f"{half:.4f}"}
        for line, mean, half in found
    ]  # fmt: skip
    return Plot(figure, {"": rows})


def _score(line: Line) -> float:
    assert line.score is not None  # only such lines are drawn
    return line.score


def _deviation(line: Line) -> float:
    spread = line.spread(line.metric)
    return (spread.deviation or 0.0) if spread else 0.0


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _by_factors(values: Sequence[float]) -> bool:
    """Whether numbers are so far apart that factors of them are what is looked at."""
    return min(values) > 0 and max(values) / min(values) >= 8


def _marks(values: Sequence[Any]) -> dict[str, float]:
    """Where each value is on an axis: numbers of a scale at themselves, others side by side."""
    if _numbers(values):
        return {said(value): float(value) for value in values}
    return {name: float(at) for name, at in _places(values).items()}


def _places(values: Sequence[Any]) -> dict[str, int]:
    """Values side by side, numbers by size and others as they come."""
    order = sorted(set(values)) if _numbers(values) else dict.fromkeys(values)
    return {said(value): at for at, value in enumerate(order)}
