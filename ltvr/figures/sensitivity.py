"""Figure 3: accuracy over t, the epoch where generation begins, and over lambda."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ltvr.config.config import Config
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.figures.plot import Plot
from ltvr.figures.style import axes, colour, styled
from ltvr.runs.folder import Run
from ltvr.stages import STAGES
from ltvr.stages.features import first_generating_epoch

__all__ = ["Point", "draw_sensitivity", "points_over_lambda", "points_over_t"]


class Point(NamedTuple):
    """The accuracy of one run after one stage, at the value that is looked at."""

    value: float
    stage: str
    """What tables call it."""
    accuracy: float
    """Top-1 of all test images, in percent."""


def points_over_t(runs: Iterable[Run]) -> list[Point]:
    """A point for each stage of finished runs that differ in t, in epochs, and in their seeds.

    Raises:
        UserError: a run that is not finished, or that generates nothing.
    """
    return [point for run in runs for point in _points(run, first_generating_epoch(_config(run)))]


def points_over_lambda(runs: Iterable[Run]) -> list[Point]:
    """The same of runs that differ in lambda, the weight of L_all (eq. 12).

    Raises:
        UserError: as ``points_over_t``.
    """
    return [
        point
        for run in runs
        for point in _points(run, _config(run).of(GenerationOptions).loss_weight)
    ]


def _config(run: Run) -> Config:
    config = run.config()
    if first_generating_epoch(config) is None:
        raise UserError(
            f"{run.folder} generates nothing, so neither t nor lambda means anything there; name a "
            "run with a decomposition and --gamma above 0"
        )
    return config


def _points(run: Run, value: float | None) -> list[Point]:
    assert value is not None  # _config has seen to it
    metrics = run.read_summary()["metrics"]
    return [Point(value, STAGES.get(name).title, each["all"]) for name, each in metrics.items()]


@styled
def draw_sensitivity(t: Sequence[Point], weight: Sequence[Point]) -> Plot:
    """Fig. 3: accuracy over t (a) and over lambda (b), a line a stage.

    Of several runs at a value the line goes through the mean, and a bar shows their sample standard
    deviation. Either of the two may be empty: its panel is left out.
    """
    shown = [(name, points) for name, points in (("t", t), ("lambda", weight)) if points]
    if not shown:
        raise UserError("there is no run over t or lambda to draw; name finished ones")
    figure, panels = axes(len(shown), sharey=True)
    rows = []
    for axis, (name, points) in zip(panels[0], shown, strict=True):
        by_stage: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for value, stage, accuracy in points:
            by_stage[stage][value].append(accuracy)
        for number, (stage, found) in enumerate(by_stage.items()):
            values = sorted(found)
            means = [float(np.mean(found[value])) for value in values]
            spreads = [
                float(np.std(found[value], ddof=1)) if len(found[value]) > 1 else 0.0
                for value in values
            ]
            style = {"marker": "os^D"[number % 4], "capsize": 3, "color": colour(number)}
            axis.errorbar(values, means, spreads, label=stage, **style)
            for value, mean, spread in zip(values, means, spreads, strict=True):
                runs = len(found[value])
                rows.append(
                    {
                        "parameter": name,
                        "value": f"{value:g}",
                        "stage": stage,
                        "runs": runs,
                        "mean": f"{mean:.4f}",
                        "deviation": f"{spread:.4f}" if runs > 1 else "",
                    }
                )
        what = (
            "t, epochs before generation begins" if name == "t" else "λ, weight of the joint loss"
        )
        marks = sorted({value for value, *_ in points})
        axis.set_xticks(marks, [f"{value:g}" for value in marks])
        axis.set_xlabel(what)
    panels[0, 0].set(ylabel="top-1, all classes, %")
    panels[0, 0].legend()
    return Plot(figure, {"": rows})
