"""How figures look, and how they become files and parts of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator

__all__ = [
    "COLOURS",
    "INK",
    "QUIET",
    "axes",
    "bars",
    "class_axis",
    "colour",
    "inline",
    "render",
    "styled",
    "whole_numbers",
]

P = ParamSpec("P")
T = TypeVar("T")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by any kind of colour vision (Okabe and Ito, 2008), on white and on black."""
QUIET = "#8f98a1"
"""Of what is there for comparison: grid lines, the counts behind a curve."""
INK = "#1f2328"
"""Of text and axes; on a page that of its text."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name begins no formula
    "xtick.color": INK,
    "ytick.color": INK,
}


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Draw in the style of this module: of a function that makes a figure."""
    return matplotlib.rc_context(STYLE)(draw)


def colour(number: int) -> str:
    """The colour of the series ``number``; they repeat."""
    return COLOURS[number % len(COLOURS)]


def axes(
    columns: int, rows: int = 1, *, width: float = 3.4, height: float = 2.8, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows`` x ``columns`` panels, and their axes in an array of that shape.

    Args:
        width, height: of a panel, in inches.
        settings: of ``Figure.subplots``.
    """
    figure = Figure(figsize=(width * columns, height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def bars(axis: Axes, values: np.ndarray, **style: Any) -> None:
    """A bar for each class, in one shape: ten thousand of their own take half a minute."""
    axis.stairs(values, np.arange(len(values) + 1) - 0.5, fill=True, **style)


def class_axis(axis: Axes, classes: int) -> None:
    """Let the x axis be that of ``bars`` of so many classes."""
    axis.set(xlabel="class, by falling training images", xlim=(-0.5, classes - 0.5))
    whole_numbers(axis)


def whole_numbers(axis: Axes) -> None:
    """Let the marks of the x axis be whole numbers: classes, epochs."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def render(figure: Figure, kind: str) -> bytes:
    """The file of a figure, ``svg`` or ``png``: of the same figure always the same."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "ltvr"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def inline(figure: Figure) -> str:
    """An ``<svg>`` for a page, light or dark: without a ground, its ink that of the text."""
    figure.patch.set_visible(False)
    for axis in figure.axes:
        axis.patch.set_visible(False)
    text = render(figure, "svg").decode("utf-8")
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # HTML knows them: nothing names the net
    size = r'width="([\d.]+)pt" height="[\d.]+pt"'  # the page makes it smaller where it has to
    return re.sub(size, r'style="max-width: \1pt" role="img"', text, count=1)
