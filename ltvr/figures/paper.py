"""The figures of the paper by their number, from the folders of finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ltvr.data.longtail import CIFAR, longtail_counts
from ltvr.engine.evaluation import Source
from ltvr.figures.counts import (
    ClassCounts,
    counts_of,
    draw_counts,
    draw_mixed,
    draw_synthetic,
    imagenet_lt,
    simulated,
)
from ltvr.figures.embeddings import draw_embeddings, embed
from ltvr.figures.plot import Plot, write
from ltvr.figures.sensitivity import draw_sensitivity, points_over_lambda, points_over_t
from ltvr.figures.style import QUIET
from ltvr.runs.folder import Run

__all__ = ["FIGURES", "Runs"]

Runs = Mapping[str, Mapping[str, Sequence[Path]]]
"""Data set -> name of a run, as ``ltvr-t-10`` -> the folders of its finished seeds."""

NAMES = {"cifar10": "CIFAR-10-IR100", "cifar100": "CIFAR-100-IR100"}
"""What the paper calls a data set of imbalance 100."""
IMAGES_A_PLAN = 24
"""Of the counts that are planned without a run. The paper does not say its own; at 24 all three of
its ratios come out, at 32 nearly."""


def fig2(runs: Runs) -> Plot:
    """Training images of each class, of any run of a data set, and of ImageNet-LT."""
    any_of = {
        data: [each for folders in of.values() for each in folders] for data, of in runs.items()
    }
    found = [_counts(data, folders[0]) for data, folders in any_of.items() if folders]
    missing = [data for data, folders in any_of.items() if not folders]
    return _without(draw_counts([*found, imagenet_lt()]), missing)


def _of_synthetic(draw: Callable[[Sequence[ClassCounts]], Plot], runs: Runs) -> Plot:
    """Synthetic samples of the runs ``ltvr``, and those planned of ImageNet-LT."""
    found = [_counts(data, of["ltvr"][0]) for data, of in runs.items() if of.get("ltvr")]
    missing = [data for data, of in runs.items() if not of.get("ltvr")]
    return _without(draw([*found, simulated(imagenet_lt(), IMAGES_A_PLAN)]), missing)


def fig5(runs: Runs) -> Plot:
    """Synthetic samples of each class."""
    return _of_synthetic(draw_synthetic, runs)


def fig6(runs: Runs) -> Plot:
    """Training images and synthetic samples together."""
    return _of_synthetic(draw_mixed, runs)


def fig3(runs: Runs) -> Plot | None:
    """Accuracy over t and lambda, of the runs ``ltvr``, ``ltvr-t-...`` and ``ltvr-lambda-...``.

    A run that has several names, as the one at the method's own t and lambda, counts once.
    """

    def named(kind: str) -> list[Run]:
        folders = dict.fromkeys(
            folder
            for of in runs.values()
            for name, folders in of.items()
            if name == "ltvr" or name.startswith(f"ltvr-{kind}-")
            for folder in folders
        )
        return [Run.open(folder) for folder in folders]

    if not named("t"):
        return None
    return draw_sensitivity(points_over_t(named("t")), points_over_lambda(named("lambda")))


def fig4(runs: Runs) -> Plot | None:
    """Embeddings of the test images after the first stage, of ``baseline`` and ``ltvr``."""
    shown = {"baseline": "Baseline", "ltvr": "LTVR"}
    found = {
        title: of[name][0] for of in runs.values() for name, title in shown.items() if of.get(name)
    }
    if not found:
        return None
    networks = {
        title: embed(Run.open(folder).weights("features"), Source())
        for title, folder in found.items()
    }
    classes = Run.open(next(iter(found.values()))).manifest()["classes"]
    plot = draw_embeddings(networks, classes)
    missing = [title for title in shown.values() if title not in found]
    return _without(plot, missing)


def _counts(data: str, folder: Path) -> ClassCounts:
    """The counts of a run, under the paper's name where they are the paper's."""
    counts = counts_of(Run.open(folder), data)
    if data not in NAMES:
        return counts
    classes, largest = CIFAR[data]
    papers = longtail_counts(largest, classes, 100)
    same = sorted(counts.original.tolist(), reverse=True) == papers
    return replace(counts, name=NAMES[data]) if same else counts


def _without(plot: Plot, missing: Sequence[str]) -> Plot:
    """Say, in the figure and beside it, what is not there yet."""
    if not missing:
        return plot
    line = f"not trained yet: {', '.join(missing)}"
    plot.figure.suptitle(line, fontsize=8, color=QUIET)
    return replace(plot, notes=[*plot.notes, line])


def _writer(draw: Callable[[Runs], Plot | None]) -> Callable[[Runs, Path], list[Path]]:
    def written(runs: Runs, to: Path) -> list[Path]:
        plot = draw(runs)
        return [] if plot is None else write(plot, to)

    return written


FIGURES: dict[str, Callable[[Runs, Path], list[Path]]] = {
    draw.__name__: _writer(draw) for draw in (fig2, fig3, fig4, fig5, fig6)
}
"""``FIGURES["fig6"](runs, to)`` draws what there is, and returns the files that it wrote:
``to.svg``, ``.png``, ``.csv``, and ``.txt``, a line a number of the caption. Figures 2, 5 and 6
have ImageNet-LT from its class counts alone; 3 and 4 are not drawn while there is no run."""
