"""``python -m ltvr.evaluate RUN...``: the metrics of trained models, on one table."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ltvr import distributed, errors
from ltvr.config.command_line import Parser, flag
from ltvr.data.batches import Batches
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.engine.accuracy_table import table
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.source import Source, add_source, load_source, source_of
from ltvr.engine.trained import (
    add_device,
    add_inference,
    inference_of,
    load_trained,
    trained_parser,
    weights_of,
)
from ltvr.errors import UserError, shown
from ltvr.reports.tables import write_confusion, write_per_class
from ltvr.runs.output import output, refuse_same
from ltvr.saying import say_notes

__all__ = ["main"]


def parser() -> Parser:
    """Build the command line."""
    p = trained_parser("evaluate", "Evaluate trained models.", several=True)
    p.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="other images: a folder of <class>/<image>, or a list of `path label` lines, "
        "relative to --root or to the list",
    )
    add_source(p)
    add_device(p)
    add_inference(p)
    p.add_argument("--json", type=Path, metavar="FILE", help="write the metrics here too")
    p.add_argument(
        "--per-class", type=Path, metavar="FILE", help="CSV of each class: images, accuracy, shot"
    )
    p.add_argument(
        "--confusion", type=Path, metavar="FILE", help="CSV of the confusion matrix, true by row"
    )
    return p


class Measured(NamedTuple):
    """One run on one set of images."""

    metrics: dict[str, Any]
    classes: list[str]
    train: Int64Array
    """[C] training images of each class."""
    images: Int64Array
    """[C] images of each class that were evaluated."""
    options: DataOptions


def measure(path: Path, source: Source, arguments: Any) -> Measured:
    """Evaluate one run."""
    trained = load_trained(path, arguments.device, arguments.fused, inference_of(arguments))
    with distributed.first_ahead():
        split = load_source(source, trained.run, trained.config)
    say_notes(split.notes)
    train = np.asarray(trained.run.manifest()["train_counts"], np.int64)
    batches = Batches(split, trained.config, trained.device)
    confusion = arguments.confusion is not None
    options = trained.config.of(DataOptions)
    metrics = evaluate_split(trained.network, batches, train, confusion=confusion)
    metrics["evaluated_on"] = source.name(options)
    images = np.bincount(split.labels, minlength=len(train)).astype(np.int64)
    return Measured(metrics, trained.classes, train, images, options)


def write(files: dict[str, IO[str]], found: dict[str, Measured]) -> None:
    """Write the files that were asked for, by the name of the option."""
    one = next(iter(found.values()))
    if "confusion" in files:
        write_confusion(files["confusion"], one.classes, one.metrics["confusion"])
    if "per_class" in files:
        write_per_class(
            files["per_class"], one.classes, one.train, one.images, one.metrics, one.options
        )
    if "json" in files:
        values = {
            run: {**{k: v for k, v in m.metrics.items() if k != "confusion"}, "classes": m.classes}
            for run, m in found.items()
        }
        value = values if len(values) > 1 else next(iter(values.values()))
        files["json"].write(json.dumps(value, indent=1) + "\n")


def tables(found: dict[str, Measured], *, alone: bool) -> str:
    """The metrics as text: a row a run, or the split of one ``alone``.

    Runs that were evaluated on other images, by what is known of them, have tables of their own.
    """
    by_images: dict[Any, dict[str, dict[str, Any]]] = {}
    for path, each in found.items():
        split, held_out = each.metrics["evaluated_on"], None
        if split == "hold-out":
            options = vars(each.options)
            held_out = [options[name] for name in options if name.startswith("holdout")]
        images = (split, *each.classes, *each.images.tolist(), str(held_out))
        by_images.setdefault(images, {})[split if alone else shown(path)] = each.metrics
    return "\n\n".join(table(rows, images[0]) for images, rows in by_images.items())


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    with distributed.ranks_joined():
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    paths: list[Path] = list(dict.fromkeys(arguments.run))
    source = source_of(arguments, arguments.data)
    for path in paths:
        weights_of(path)
    written = ("json", "per_class", "confusion")
    refuse_same({flag(option): getattr(arguments, option) for option in written})
    with ExitStack() as stack:
        files = {}
        for option in written:
            wanted = getattr(arguments, option)
            if wanted is None or not distributed.is_first():
                continue
            if option != "json" and len(paths) > 1:
                raise UserError(f"{flag(option)} is for one run, and there are {len(paths)}")
            files[option] = stack.enter_context(output(wanted, flag(option)))
        found: dict[str, Measured] = {}
        try:
            for path in paths:
                found[str(path)] = measure(path, source, arguments)
        finally:  # what was measured is not lost with what comes after
            if found and distributed.is_first():
                print(tables(found, alone=len(paths) == 1))
        write(files, found)


if __name__ == "__main__":
    errors.run(main, ranks=True)
