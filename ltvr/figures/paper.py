"""The figures of the paper by their number, from the folders of finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ltvr.engine.evaluation import Source
from ltvr.figures.counts import (
    ClassCounts,
    counts_of,
    draw_counts,
    draw_mixed,
    draw_synthetic,
    read_counts,
    simulated,
)
from ltvr.figures.embeddings import draw_embeddings, embedded
from ltvr.figures.plot import Plot, write
from ltvr.figures.sensitivity import draw_sensitivity, points_over_lambda, points_over_t
from ltvr.figures.style import QUIET
from ltvr.runs.folder import Run

__all__ = ["FIGURES", "Runs"]

Runs = Mapping[str, Mapping[str, Sequence[Path]]]
"""Data set -> name of a run, as ``ltvr-t-10`` -> the folders of its finished seeds."""

Draw = Callable[[Runs, "Path | None"], "Plot | None"]

NAMES = {"cifar10": ("CIFAR-10-IR100", 10), "cifar100": ("CIFAR-100-IR100", 100)}
"""What the paper calls a data set, and its classes; the imbalance is 100."""
IMAGENET = "ImageNet-LT"
IMAGES_A_PLAN = 24
"""Of the counts that are planned without a run. The paper does not say its own; at 24 all three of
its ratios come out, at 32 nearly."""


def fig2(runs: Runs, counts: Path | None) -> Plot | None:
    """Training images of each class."""
    found = [_counts(data, next(iter(of.values()))[0]) for data, of in runs.items() if of]
    if counts is not None:
        found.append(read_counts(counts, IMAGENET))
    return draw_counts(found) if found else None


def _mixed(draw: Callable[[Sequence[ClassCounts]], Plot]) -> Draw:
    """Figures of synthetic samples: those of the runs ``ltvr``, and of ImageNet-LT planned ones."""

    def drawn(runs: Runs, counts: Path | None) -> Plot | None:
        found = [_counts(data, of["ltvr"][0]) for data, of in runs.items() if of.get("ltvr")]
        if counts is not None:
            found.append(simulated(read_counts(counts, IMAGENET), IMAGES_A_PLAN))
        return draw(found) if found else None

    return drawn


def fig3(runs: Runs, counts: Path | None) -> Plot | None:
    """Accuracy over t and lambda, of the runs ``ltvr``, ``ltvr-t-...`` and ``ltvr-lambda-...``."""

    def named(kind: str) -> list[Run]:
        return [
            Run.open(folder)
            for of in runs.values()
            for name, folders in of.items()
            if name == "ltvr" or name.startswith(f"ltvr-{kind}-")
            for folder in folders
        ]

    if not named("t"):
        return None
    return draw_sensitivity(points_over_t(named("t")), points_over_lambda(named("lambda")))


def fig4(runs: Runs, counts: Path | None) -> Plot | None:
    """Embeddings of the test images after the first stage, of ``baseline`` and ``ltvr``."""
    shown = {"baseline": "Baseline", "ltvr": "LTVR"}
    found = {
        title: of[name][0] for of in runs.values() for name, title in shown.items() if of.get(name)
    }
    if not found:
        return None
    networks = {
        title: embedded(Run.open(folder).weights("features"), Source())
        for title, folder in found.items()
    }
    classes = Run.open(next(iter(found.values()))).manifest()["classes"]
    plot = draw_embeddings(networks, classes)
    missing = [title for title in shown.values() if title not in found]
    return _without(plot, missing)


def _counts(data: str, folder: Path) -> ClassCounts:
    """The counts of a run, under the paper's name where they are the paper's."""
    counts = counts_of(Run.open(folder), data)
    name, classes = NAMES.get(data, (data, 0))
    imbalance = counts.original.max() / counts.original.min()
    same = len(counts.classes) == classes and imbalance == 100
    return replace(counts, name=name) if same else counts


def _without(plot: Plot, missing: Sequence[str]) -> Plot:
    """Say, in the figure and beside it, what is not there yet."""
    if not missing:
        return plot
    line = f"not trained yet: {', '.join(missing)}"
    plot.figure.suptitle(line, fontsize=8, color=QUIET)
    return replace(plot, notes=[*plot.notes, line])


def _writer(draw: Draw) -> Callable[..., list[Path]]:
    def written(runs: Runs, to: Path, counts: Path | None = None) -> list[Path]:
        plot = draw(runs, counts)
        if plot is None:
            return []
        return write(_without(plot, [data for data, of in runs.items() if not of]), to)

    return written


FIGURES: dict[str, Callable[..., list[Path]]] = {
    "fig2": _writer(fig2),
    "fig3": _writer(fig3),
    "fig4": _writer(fig4),
    "fig5": _writer(_mixed(draw_synthetic)),
    "fig6": _writer(_mixed(draw_mixed)),
}
"""``FIGURES["fig6"](runs, to, counts)`` draws what there is, and returns the files that it wrote
(``to.svg``, ``.png``, ``.csv``, and ``.txt``, a line a number of the caption): none if there is no
run. ``counts`` is a file of the class counts of ImageNet-LT, which it is then drawn from alone."""
