"""The figures of the paper by their number, from the folders of finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ltvr.data.longtail import CIFAR, imagenet_lt_counts, longtail_counts
from ltvr.engine.source import Source
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


class Runs(NamedTuple):
    """The runs that a figure is drawn from."""

    finished: Mapping[str, Mapping[str, Sequence[Path]]]
    """Data set -> name of a run, as ``ltvr-t-10`` -> the folders of its finished seeds."""
    places: Mapping[str, Mapping[str, Any]] = {}
    """Data set -> ``root`` and ``lists`` of its images, which may have moved, where said."""
    device: str = "auto"
    """Of the network that embeds images."""


NAMES = {"cifar10": "CIFAR-10-IR100", "cifar100": "CIFAR-100-IR100", "imagenet-lt": "ImageNet-LT"}
"""What the paper calls a data set, CIFAR with an imbalance of 100."""
IMAGES_A_PLAN = 24
"""Of the counts that are planned without a run. The paper does not say its own; at 24 all three of
its ratios come out, at 32 nearly."""


def fig2(runs: Runs) -> Plot:
    """Training images of each class, of any run of a data set, and of ImageNet-LT."""
    any_of = {
        data: [each for folders in of.values() for each in folders]
        for data, of in runs.finished.items()
    }
    return _of_counts(draw_counts, any_of, imagenet_lt)


def _of_synthetic(draw: Callable[[Sequence[ClassCounts]], Plot], runs: Runs) -> Plot:
    """Synthetic samples of the runs ``ltvr``, and of ImageNet-LT, if need be planned ones."""
    ltvr = {data: of.get("ltvr", ()) for data, of in runs.finished.items()}
    return _of_counts(draw, ltvr, lambda: simulated(imagenet_lt(), IMAGES_A_PLAN))


def _of_counts(
    draw: Callable[[Sequence[ClassCounts]], Plot],
    folders: Mapping[str, Sequence[Path]],
    without_a_run: Callable[[], ClassCounts],
) -> Plot:
    """A panel a data set, of the first of its runs.

    Args:
        folders: of the runs, by data set.
        without_a_run: gives the counts of ImageNet-LT, which needs none.
    """
    found = [_counts(data, runs[0]) for data, runs in folders.items() if runs]
    if all(counts.name != NAMES["imagenet-lt"] for counts in found):
        found.append(without_a_run())
    there = {counts.name for counts in found}
    missing = [data for data, runs in folders.items() if not runs and NAMES.get(data) not in there]
    return _without(draw(found), missing)


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
            for of in runs.finished.values()
            for name, folders in of.items()
            if name == "ltvr" or name.startswith(f"ltvr-{kind}-")
            for folder in folders
        )
        return [Run.open(folder) for folder in folders]

    if not named("t"):
        return None
    return draw_sensitivity(points_over_t(named("t")), points_over_lambda(named("lambda")))


def fig4(runs: Runs) -> Plot | None:
    """Embeddings of the test images after the first stage: of ``baseline``, ``ltvr`` and others."""
    others = {name: name.removeprefix("method-") for of in runs.finished.values() for name in of}
    shown = {**others, "baseline": "Baseline", "ltvr": "LTVR"}
    found = {
        title: (data, of[name][0])
        for data, of in runs.finished.items()
        for name, title in shown.items()
        if of.get(name)
    }
    if not found:
        return None
    networks = {
        title: embed(
            Run.open(folder).weights("features"),
            Source(changes=dict(runs.places.get(data, {}))),
            runs.device,
        )
        for title, (data, folder) in found.items()
    }
    _, any_of = next(iter(found.values()))
    plot = draw_embeddings(networks, Run.open(any_of).manifest()["classes"])
    missing = [title for title in shown.values() if title not in found]
    return _without(plot, missing)


def _counts(data: str, folder: Path) -> ClassCounts:
    """The counts of a run, under the paper's name where they are the paper's."""
    counts = counts_of(Run.open(folder), data)
    if data not in NAMES:
        return counts
    papers: Sequence[int] = imagenet_lt_counts()
    if data in CIFAR:
        classes, largest = CIFAR[data]
        papers = longtail_counts(largest, classes, 100)
    same = sorted(counts.original.tolist()) == sorted(papers)
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
