"""Figures 2, 5 and 6: how many training, synthetic and mixed samples each class has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ltvr.afa.planning import plan_synthesis
from ltvr.clock import stream
from ltvr.config.options import NoOptions
from ltvr.data.longtail import Int64Array, imagenet_lt_counts
from ltvr.errors import UserError, shown
from ltvr.figures.plot import Plot
from ltvr.figures.style import COLOURS, QUIET, axes, bars, class_axis, styled
from ltvr.runs.folder import Run
from ltvr.samplers.instance import Instance

__all__ = [
    "PAPER_RATIOS",
    "ClassCounts",
    "counts_of",
    "draw_counts",
    "draw_mixed",
    "draw_synthetic",
    "imagenet_lt",
    "simulated",
]

PAPER_RATIOS = {"CIFAR-10-IR100": 10.0, "CIFAR-100-IR100": 62.0, "ImageNet-LT": 230.0}
"""Largest : smallest class of real and synthetic samples together, as the paper reports them in
its section on Fig. 6. It does not say how many images a plan has."""


@dataclass(frozen=True)
class ClassCounts:
    """How many samples each class of a data set has."""

    name: str
    """Of the data set, over its panel."""
    classes: list[str]
    original: Int64Array
    """[C] training images."""
    synthetic: npt.NDArray[np.float64] | None = None
    """[C] synthetic samples of an epoch; None where none were counted."""
    source: str = ""
    """Where the synthetic ones come from, for the caption."""

    @property
    def made(self) -> npt.NDArray[np.float64]:
        """The synthetic samples.

        Raises:
            UserError: none were counted.
        """
        if self.synthetic is None:
            raise UserError(
                f"{self.name}: no synthetic samples are counted; name a run with a decomposition "
                "and --gamma above 0 that has reached the epoch where generation begins"
            )
        return self.synthetic

    @property
    def order(self) -> Int64Array:
        """The classes by falling number of training images."""
        return np.argsort(-self.original, kind="stable")


def counts_of(run: Run, name: str) -> ClassCounts:
    """The counts of a run: of its training images, and of the last epoch that made synthetic ones.

    Args:
        name: of the data set.

    Raises:
        UserError: files of the run that are missing or damaged.
    """
    manifest = run.manifest()
    made = [record for record in run.records() if any(record["synthetic_counts"])]
    counts = ClassCounts(name, manifest["classes"], np.asarray(manifest["train_counts"], np.int64))
    if not made:
        return counts
    last = made[-1]
    synthetic = np.asarray(last["synthetic_counts"], np.float64)
    source = f"epoch {last['epoch']} of {shown(run.name)}"
    return replace(counts, synthetic=synthetic, source=source)


def imagenet_lt() -> ClassCounts:
    """The counts of ImageNet-LT, of which nothing else is needed."""
    counts = np.asarray(imagenet_lt_counts(), np.int64)
    return ClassCounts("ImageNet-LT", [str(k) for k in range(len(counts))], counts)


def simulated(
    counts: ClassCounts,
    batch: int,
    *,
    gamma: float = 1.0,
    alpha: float = 4.0,
    seed: int = 0,
    epochs: int = 10,
) -> ClassCounts:
    """Plan the synthesis of epochs (eq. 9-11) that exist as class counts alone.

    Instance-balanced sampling; what does not fill a last batch is left out, as in training. How
    often a class is rare in its batch depends on the size of the batch: say it with the figure.

    Args:
        batch: images that a plan is made of (a synthesis group).
        epochs: the synthetic counts are their mean.

    Raises:
        UserError: a batch of more images than there are, or of fewer than 2.
    """
    total = int(counts.original.sum())
    if not 2 <= batch <= total:
        raise UserError(f"batch = {batch}: expected 2 to {total}, the images of {counts.name}")
    labels = np.repeat(np.arange(len(counts.original)), counts.original)
    made = np.zeros(len(counts.original), np.int64)
    sampler, steps = Instance(NoOptions()), total // batch
    for epoch in range(epochs):
        order = sampler.epoch(labels, seed=stream(seed, "features"), epoch=epoch, epochs=epochs)
        for batch_labels in torch.from_numpy(labels[order[: steps * batch]]).split(batch):
            # How many of each class: a matter of the labels alone, whatever is drawn from them.
            plan = plan_synthesis(batch_labels, gamma=gamma, alpha=alpha, seed=seed, step=0)
            made += np.bincount(plan.labels.numpy(), minlength=len(made))
    source = (
        f"planned from the class counts alone, {batch} images a plan, gamma {gamma:g}, alpha "
        f"{alpha:g}, seed {seed}, mean of {epochs} epochs"
    )
    return replace(counts, synthetic=made / epochs, source=source)


# ---- the figures ----


@styled
def draw_counts(data_sets: Sequence[ClassCounts]) -> Plot:
    """Fig. 2: training images of each class, a panel a data set."""

    def panel(axis: Axes, counts: ClassCounts) -> str:
        bars(axis, counts.original[counts.order], color=COLOURS[0])
        return f"{_ratio(counts.original)} : 1"

    notes = [f"{each.name}: {each.original.sum():,} images" for each in data_sets]
    return _draw(data_sets, panel, "training images", notes)


@styled
def draw_synthetic(data_sets: Sequence[ClassCounts]) -> Plot:
    """Fig. 5: synthetic samples of each class in an epoch, a panel a data set.

    Raises:
        UserError: a data set without any.
    """

    def panel(axis: Axes, counts: ClassCounts) -> str:
        bars(axis, counts.made[counts.order], color=COLOURS[1])
        return f"{_ratio(counts.made)} : 1"

    notes = [f"{each.name}: {each.made.sum():,.0f} samples, {each.source}" for each in data_sets]
    return _draw(data_sets, panel, "synthetic samples an epoch", notes)


@styled
def draw_mixed(data_sets: Sequence[ClassCounts]) -> Plot:
    """Fig. 6: training images, and these with the synthetic samples of an epoch.

    The notes have the ratios of largest to smallest class before and after, and the paper's.

    Raises:
        UserError: a data set without synthetic samples.
    """

    def panel(axis: Axes, counts: ClassCounts) -> str:
        mixed = counts.original + counts.made
        # A logarithm, or the rare classes, which this is about, could not be seen.
        floor = max(counts.original.min() / 2, 0.5)
        order = counts.order
        bars(axis, mixed[order], color=COLOURS[1], label="with synthetic samples", baseline=floor)
        bars(axis, counts.original[order], color=QUIET, label="training images", baseline=floor)
        axis.set(yscale="log", ylim=(floor, None))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        return f"{_ratio(counts.original)} : 1 to {_ratio(mixed)} : 1{_paper(counts)}"

    notes = [
        f"{each.name}: {_ratio(each.original)} : 1 to {_ratio(each.original + each.made)} : 1"
        f"{_paper(each)}; {each.source}"
        for each in data_sets
    ]
    plot = _draw(data_sets, panel, "samples, log scale", notes)
    handles, labels = plot.figure.axes[0].get_legend_handles_labels()
    plot.figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return plot


def _paper(counts: ClassCounts) -> str:
    """The ratio that the paper has for a data set, where it has one."""
    ratio = PAPER_RATIOS.get(counts.name)
    return "" if ratio is None else f", paper {ratio:.1f}"


def _ratio(values: npt.NDArray[Any]) -> str:
    """Largest over smallest; of a class that has none there is no ratio."""
    return f"{values.max() / values.min():.1f}" if values.min() else "inf"


def _draw(
    data_sets: Sequence[ClassCounts],
    panel: Callable[[Axes, ClassCounts], str],
    what: str,
    notes: list[str],
) -> Plot:
    """A panel a data set, headed by its name and what ``panel`` says of the imbalance."""
    figure, panels = axes(len(data_sets))
    rows = []
    for axis, counts in zip(panels[0], data_sets, strict=True):
        ratio = panel(axis, counts)
        axis.set(title=f"{shown(counts.name)}\n{ratio}")
        class_axis(axis, len(counts.original))
        for position, k in enumerate(counts.order.tolist()):
            row = {"data_set": counts.name, "position": position, "class": counts.classes[k]}
            row |= {"training_images": int(counts.original[k])}
            if counts.synthetic is not None:
                made = float(counts.synthetic[k])
                row |= {"synthetic": f"{made:g}", "mixed": f"{counts.original[k] + made:g}"}
            rows.append(row)
    panels[0, 0].set(ylabel=what)
    return Plot(figure, {"": rows}, notes)
