"""Figures of the probes, from what they have found alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ltvr.engine.accuracy_table import COLUMNS, SUBSETS
from ltvr.errors import shown
from ltvr.figures.plot import Plot
from ltvr.figures.style import INK, QUIET, axes, colour, styled, whole_numbers
from ltvr.probes.lines import Line

__all__ = [
    "Margins",
    "Masked",
    "draw_accuracies",
    "draw_history",
    "draw_margins",
    "draw_masks",
    "draw_neighbours",
]

BINS = 60
OTHERS = "other classes"
KINDS = {"generated": colour(1), "real": colour(0)}
"""Colours of rows."""


class Margins(NamedTuple):
    """Margins of rows, and how much each counts in a histogram."""

    values: npt.NDArray[Any]
    """[R], -1 to 1; nan where there is none."""
    labels: npt.NDArray[np.int64]
    """[R]."""


class Masked(NamedTuple):
    """An image and its mask."""

    title: str
    pixels: npt.NDArray[Any]
    """[S, S, 3], 0 to 1."""
    mask: npt.NDArray[Any]
    """[H, W], the mean over the channels."""
    channel: npt.NDArray[Any]
    """[H, W], of the channel that varies most over the positions."""


@styled
def draw_history(runs: Mapping[str, Sequence[dict[str, Any]]]) -> Plot:
    """Loss and accuracy of real (solid) and generated rows (dashed) by epoch; a line: it begins.

    Args:
        runs: by name, the epochs as ``ltvr.probes.history`` has them.
    """
    figure, panels = axes(2, width=4.2, height=2.8)
    table = []
    for number, (name, epochs) in enumerate(runs.items()):
        at = [epoch["epoch"] for epoch in epochs]
        table += [{"run": name, **epoch} for epoch in epochs]
        for axis, what in zip(panels[0], ("loss", "accuracy"), strict=True):
            for kind, style, hue in (("real", "-", 0), ("synthetic", "--", 1)):
                values = _floats([epoch[f"{kind}_{what}"] for epoch in epochs])
                if np.isnan(values).all():
                    continue
                said = {"real": "real", "synthetic": "generated"}[kind]
                label = f"{shown(name)}, {said}" if name else said
                hue = number if len(runs) > 1 else hue
                marker = "." if np.isfinite(values).sum() == 1 else ""
                axis.plot(at, values, style, color=colour(hue), label=label, lw=1.3, marker=marker)
            begins = [e["epoch"] for e in epochs if e["synthetic_loss"] is not None]
            if begins:
                axis.axvline(begins[0] - 0.5, color=QUIET, lw=1)
    for axis, what in zip(panels[0], ("mean loss", "right, %"), strict=True):
        axis.set(xlabel="epoch", ylabel=what)
        whole_numbers(axis)
    panels[0, 0].legend(fontsize=7)
    return Plot(figure, {"": table})


@styled
def draw_neighbours(lines: Sequence[Line], k: int) -> Plot:
    """Whose label the k nearest real rows have, a panel a space: generated rows beside real ones.

    Args:
        lines: of ``ltvr.probes.neighbours``.
    """
    spaces = list(dict.fromkeys(line.space for line in lines if line.space != "any"))
    by_name = {(line.space, line.of, line.measure): line.means for line in lines}
    subsets = _known([means for (space, *_), means in by_name.items() if space in spaces])
    figure, panels = axes(len(spaces), width=4.2, height=2.8, sharey=True)
    table = []
    parts = {"own class": colour(2), "class of the variation donor": colour(1), OTHERS: QUIET}
    for axis, space in zip(panels[0], spaces, strict=True):
        ticks = []
        for number, subset in enumerate(subsets):
            for of, place in (("generated", 3 * number), ("real", 3 * number + 1)):
                bottom = 0.0
                own = by_name.get((space, of, f"{k} nearest: own class"))
                if own is None or own[subset] is None:
                    continue
                ticks.append((place, f"{COLUMNS[subset]}\n{of}" if of == "generated" else of))
                for part, hue in parts.items():
                    means = by_name.get((space, of, f"{k} nearest: {part}"))
                    value = 100 - bottom if part == OTHERS else (means or {}).get(subset)
                    if value is None:
                        continue
                    label = part if number == 0 and of == "generated" else None
                    axis.bar(place, value, 0.85, bottom=bottom, color=hue, label=label)
                    row = {"space": space, "subset": subset, "rows": of, "label": part}
                    table.append(row | {"percent": f"{value:.4f}"})
                    bottom += value
        axis.set_xticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=6)
        axis.set(title=space, ylim=(0, 100))
    panels[0, 0].set_ylabel(f"of the {k} nearest real rows, %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7)
    return Plot(figure, {"": table})


@styled
def draw_margins(margins: Mapping[str, Mapping[str, Margins]]) -> Plot:
    """Histograms of the margins of rows, a panel a space; every class counts alike.

    Args:
        margins: by space, and by kind of rows.
    """
    figure, panels = axes(len(margins), width=4.2, height=2.8)
    table = []
    for axis, (space, kinds) in zip(panels[0], margins.items(), strict=True):
        known = np.concatenate([each.values[~np.isnan(each.values)] for each in kinds.values()])
        low, high = (known.min(), known.max()) if len(known) else (-1.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
        for kind, (values, labels) in kinds.items():
            rows = ~np.isnan(values)
            of_class = np.bincount(labels[rows], minlength=1)
            weights = 1 / of_class[labels[rows]] / max((of_class > 0).sum(), 1)
            found, _ = np.histogram(values[rows], edges, weights=weights)
            axis.stairs(100 * found, edges, color=KINDS[kind], label=kind, lw=1.3)
            table += [
                {"space": space, "rows": kind, "from": f"{a:.4f}", "to": f"{b:.4f}"}
                | {"percent": f"{100 * share:.4f}"}
                for a, b, share in zip(edges[:-1], edges[1:], found, strict=True)
            ]
        axis.axvline(0, color=QUIET, lw=1)
        axis.set(title=space, xlabel="margin (below 0: nearer to another class)")
    panels[0, 0].set_ylabel("rows, %")
    panels[0, 0].legend(fontsize=7)
    return Plot(figure, {"": table})


@styled
def draw_masks(images: Sequence[Masked]) -> Plot:
    """Images, the mean of their masks over the channels, and the channel that varies most.

    All masks have one scale of colours, so that a flat one looks flat.
    """
    figure, panels = axes(len(images), 3, width=1.1, height=1.15)
    top = max(max(each.mask.max(), each.channel.max()) for each in images)
    drawn: Any = None
    for column, each in enumerate(images):
        panels[0, column].imshow(each.pixels)
        panels[0, column].set_title(shown(each.title), fontsize=7)
        for row, values in ((1, each.mask), (2, each.channel)):
            drawn = panels[row, column].imshow(values, cmap="viridis", vmin=0, vmax=top)
    for axis in panels.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row, name in enumerate(("image", "mask,\nmean", "mask,\none channel")):
        panels[row, 0].set_ylabel(name, fontsize=7)
    figure.colorbar(drawn, ax=panels[1:].ravel().tolist(), shrink=0.8)
    table = [
        {"image": each.title, "row": y, "column": x, "mean": f"{each.mask[y, x]:.6f}"}
        | {"channel": f"{each.channel[y, x]:.6f}"}
        for each in images
        for y, x in np.ndindex(each.mask.shape)
    ]
    return Plot(figure, {"": table})


@styled
def draw_accuracies(runs: Mapping[str, Sequence[Line]]) -> Plot:
    """Accuracies in percent, a panel a subset: a bar a line, and of several runs a colour each.

    Args:
        runs: by name, lines of the unit ``%``.
    """
    named = {run: {_name(line): line.means for line in lines} for run, lines in runs.items()}
    longest = sorted(named.values(), key=len, reverse=True)  # it has all lines in their order
    names = list(dict.fromkeys(name for lines in longest for name in lines))
    subsets = _known([means for lines in named.values() for means in lines.values()])
    height = 0.8 + 0.22 * len(names) * max(len(named), 1) + 0.25 * len(named)
    figure, panels = axes(len(subsets), width=2.4, height=height, sharey=True)
    table = []
    thick = 0.8 / max(len(named), 1)
    for axis, subset in zip(panels[0], subsets, strict=True):
        for number, (run, lines) in enumerate(named.items()):
            values = _floats([lines.get(name, {}).get(subset) for name in names])
            at = np.arange(len(names)) - 0.4 + thick * (number + 0.5)
            axis.barh(at, np.nan_to_num(values), thick, color=colour(number), label=shown(run))
            for y, value in zip(at, values, strict=True):
                if np.isfinite(value):
                    _at_bar(axis, value, y)
            table += [
                {"run": run, "subset": subset, "what": name, "percent": f"{value:.4f}"}
                for name, value in zip(names, values, strict=True)
                if np.isfinite(value)
            ]
        axis.set(title=COLUMNS[subset], xlim=(0, 100), xlabel="%")
    panels[0, 0].set_yticks(range(len(names)), names, fontsize=7)
    panels[0, 0].invert_yaxis()
    if len(named) > 1:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7)
    return Plot(figure, {"": table})


def _at_bar(axis: Axes, value: float, y: float) -> None:
    """The number at the end of a bar."""
    inside = value > 75
    axis.text(
        value - 1 if inside else value + 1,
        y,
        f"{value:.1f}",
        va="center",
        ha="right" if inside else "left",
        fontsize=6,
        color="white" if inside else INK,
    )


def _name(line: Line) -> str:
    return ", ".join(part for part in (line.of or line.measure, line.space) if part)


def _known(found: Sequence[Mapping[str, float | None]]) -> list[str]:
    """The subsets of which anything is known."""
    return [subset for subset in SUBSETS if any(means[subset] is not None for means in found)]


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in values], np.float64)
