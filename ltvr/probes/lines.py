"""What probes find: a number for each class, and its means over all, many, medium and few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ltvr.data.longtail import Int64Array, shot_of
from ltvr.engine.accuracy_table import SHOTS
from ltvr.engine.balanced import mean_of_classes
from ltvr.figures.plot import Plot

__all__ = ["Line", "Section", "Subsets"]


class Line(NamedTuple):
    """One line of a table."""

    measure: str
    """What is measured."""
    of: str
    """Of which rows."""
    space: str
    """Where they are, such as ``embedding``; empty where that says nothing."""
    unit: str
    """``%``, or empty."""
    per_class: list[float | None]
    """[C]; None of a class without rows."""
    means: dict[str, float | None]
    """``all``, ``many``, ``medium`` and ``few``: the mean of the classes; None where none has rows.

    Every class counts alike, however many rows it has.
    """


@dataclass(frozen=True)
class Section:
    """What one probe has found of one run."""

    name: str
    title: str
    lines: list[Line]
    formulas: list[str]
    """How it was measured, a sentence or formula each; alike for all runs."""
    found: list[str] = field(default_factory=list)
    """What a reader should know of this run, a line each."""
    details: dict[str, Any] = field(default_factory=dict)
    """What else the JSON holds."""
    figures: dict[str, Plot] = field(default_factory=dict)
    """By the name of their files."""


@dataclass(frozen=True)
class Subsets:
    """The classes, by their training images."""

    counts: Int64Array
    """[C] training images of each class."""
    many_above: int
    few_below: int

    @property
    def shots(self) -> list[str]:
        """Of each class ``many``, ``medium`` or ``few``."""
        return [shot_of(int(n), self.many_above, self.few_below) for n in self.counts]

    def means_of(self, values: npt.NDArray[Any], labels: Int64Array) -> npt.NDArray[np.float64]:
        """The mean of the values of each class, float64 [C]; nan of a class without any.

        Args:
            values: [R] of rows; those that are nan are left out.
            labels: [R].
        """
        values = values.astype(np.float64)
        known = ~np.isnan(values)
        classes = len(self.counts)
        number = np.bincount(labels[known], minlength=classes)
        total = np.bincount(labels[known], weights=values[known], minlength=classes)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def line(
        self,
        measure: str,
        of: str,
        values: npt.NDArray[Any],
        labels: Int64Array,
        *,
        space: str = "",
        unit: str = "%",
    ) -> Line:
        """The line of values of rows.

        Args:
            values: [R]; with the unit ``%`` shares from 0 to 1, or bools.
            labels: [R] the class that each counts for.
        """
        factor = 100 if unit == "%" else 1
        means = factor * self.means_of(values, labels)
        return self.line_of(measure, of, means.tolist(), space=space, unit=unit)

    def line_of(
        self, measure: str, of: str, per_class: Sequence[float], *, space: str = "", unit: str = "%"
    ) -> Line:
        """The line of values of classes [C], in the unit; nan where there is none."""
        known = [None if np.isnan(value) else float(value) for value in per_class]
        means = {"all": mean_of_classes(known)}
        for shot in SHOTS:
            of_shot = (v for v, own in zip(known, self.shots, strict=True) if own == shot)
            means[shot] = mean_of_classes(of_shot)
        return Line(measure, of, space, unit, known, means)
