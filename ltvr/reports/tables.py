"""Tables of an evaluation as CSV, with the names of the classes, however many there are.

Lines end as RFC 4180 has it, which is also what makes ``csv`` quote a line end of either kind.
"""

from __future__ import annotations

import csv
from typing import IO, Any

from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.reports.numbers import number

__all__ = ["write_confusion", "write_per_class"]


def write_per_class(
    file: IO[str],
    classes: list[str],
    train: Int64Array,
    evaluated: Int64Array,
    metrics: dict[str, Any],
    options: DataOptions,
) -> None:
    """Write a row a class: its name, images, accuracy in percent, and many, medium or few.

    Args:
        train, evaluated: [C] images of each class in training, and of those evaluated.
        metrics: of these; the accuracy of a class without images is left empty.
    """
    writer = csv.writer(file)
    writer.writerow(["class", "train_images", "images", "accuracy", "shot"])
    rows = zip(classes, train.tolist(), evaluated.tolist(), metrics["per_class"], strict=True)
    for name, before, images, accuracy in rows:
        writer.writerow([name, before, images, number(accuracy), options.shot_of(before)])


def write_confusion(file: IO[str], classes: list[str], matrix: list[list[int]]) -> None:
    """Write how many images of each class (a row) were taken for each class (a column)."""
    writer = csv.writer(file)
    writer.writerow(["true class", *classes])
    for name, row in zip(classes, matrix, strict=True):
        writer.writerow([name, *row])
