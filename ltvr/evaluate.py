"""``python -m ltvr.evaluate RUN...``: the metrics of trained models, on one table."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ltvr import errors
from ltvr.config.command_line import Parser
from ltvr.data.batches import Batches
from ltvr.data.options import DataOptions
from ltvr.engine.evaluation import Source, add_source, evaluate_split, load_source, source_of
from ltvr.engine.metrics import table
from ltvr.engine.trained import add_device, load_trained, trained_parser, weights_of
from ltvr.errors import UserError, shown
from ltvr.output import output
from ltvr.reports.tables import write_confusion, write_per_class

__all__ = ["main"]


def parser() -> Parser:
    """Build the command line."""
    p = trained_parser("evaluate", "Evaluate trained models.", several=True)
    p.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="other images: a folder of <class>/<image>, or a list of `path label` lines",
    )
    add_source(p)
    add_device(p)
    p.add_argument("--json", type=Path, metavar="FILE", help="write the metrics here too")
    p.add_argument(
        "--per-class", type=Path, metavar="FILE", help="CSV of each class: images, accuracy, shot"
    )
    p.add_argument(
        "--confusion", type=Path, metavar="FILE", help="CSV of the confusion matrix, true by row"
    )
    return p


def evaluate(path: Path, source: Source, arguments: Any, files: dict[str, Any]) -> dict[str, Any]:
    """The metrics of one run; its tables are written to ``files``."""
    trained = load_trained(path, arguments.device, arguments.fused)
    split = load_source(source, trained.run, trained.config)
    for note in split.notes:
        print(shown(note), file=sys.stderr)
    counts = np.asarray(trained.run.manifest()["train_counts"], np.int64)
    metrics = evaluate_split(
        trained.network,
        Batches(split, trained.config, trained.device),
        counts,
        confusion="confusion" in files,
    )
    if "confusion" in files:
        write_confusion(files["confusion"], trained.classes, metrics.pop("confusion"))
    if "per_class" in files:
        evaluated = np.bincount(split.labels, minlength=len(counts))
        options = trained.config.of(DataOptions)
        write_per_class(files["per_class"], trained.classes, counts, evaluated, metrics, options)
    return {**metrics, "classes": trained.classes}


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    paths: list[Path] = list(dict.fromkeys(arguments.run))
    source, one = source_of(arguments, arguments.data), len(paths) == 1
    for path in paths:
        weights_of(path)
    with ExitStack() as stack:
        files = {}
        for name in ("json", "per_class", "confusion"):
            wanted, option = getattr(arguments, name), f"--{name.replace('_', '-')}"
            if wanted is not None and name != "json" and not one:
                raise UserError(f"{option} is for one run, and there are {len(paths)}")
            if wanted is not None:
                files[name] = stack.enter_context(output(wanted, option))
        found = {str(path): evaluate(path, source, arguments, files) for path in paths}
        if "json" in files:
            value = next(iter(found.values())) if one else found
            files["json"].write(json.dumps(value, indent=1) + "\n")
    single = "data" if source.data is not None else source.split
    print(table({single if one else shown(path): m for path, m in found.items()}))


if __name__ == "__main__":
    errors.run(main)
