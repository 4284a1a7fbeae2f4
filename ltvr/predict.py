"""``python -m ltvr.predict RUN PATH...``: the likeliest classes of images."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

from ltvr import errors
from ltvr.config.command_line import Parser
from ltvr.engine.inputs import Problems, find_inputs, read_batches
from ltvr.engine.prior import adjustment
from ltvr.engine.trained import (
    add_device,
    add_inference,
    inference_of,
    load_trained,
    trained_parser,
    weights_of,
)
from ltvr.errors import UserError, shown

__all__ = ["main"]

Writer = Callable[[Path, list[tuple[str, float]]], None]


def parser() -> Parser:
    """Build the command line."""
    p = trained_parser("predict", "Classify images with a trained model.")
    p.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="images; folders, with the folders in them; patterns such as 'photos/**/*.jpg'; lists "
        "(.txt, .csv) of `path` or `path label` lines, whose labels are passed over; - for a list "
        "on stdin",
    )
    p.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="folder that relative paths of lists are below (that of the list)",
    )
    p.add_argument("--top", type=int, metavar="K", help="classes to show (3)")
    p.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="a line an image for people, CSV with a heading, or a JSON object a line (table)",
    )
    p.add_argument(
        "--prior",
        metavar="uniform|train|FILE",
        help="class frequencies that the probabilities are for; FILE has lines `class,weight`, or "
        "is a JSON object of them (those that the weights were trained with)",
    )
    add_device(p)
    add_inference(p)
    return p


def table(_: int) -> Writer:
    """Lines for people: ``path: class 98.1%, class 1.2%``."""

    def write(path: Path, top: list[tuple[str, float]]) -> None:
        print(f"{shown(path)}: {', '.join(f'{shown(name)} {p:.1%}' for name, p in top)}")

    return write


def as_csv(number: int) -> Writer:
    """CSV: path, and class and probability of the likeliest, the next, ..."""
    writer = csv.writer(sys.stdout)
    ranks = range(1, number + 1)
    writer.writerow(["path", *(f"{name}{k}" for k in ranks for name in ("class", "probability"))])

    def write(path: Path, top: list[tuple[str, float]]) -> None:
        writer.writerow([path, *(value for name, p in top for value in (name, f"{p:.6g}"))])

    return write


def as_json(_: int) -> Writer:
    """A JSON object a line."""

    def write(path: Path, top: list[tuple[str, float]]) -> None:
        classes = [{"class": name, "probability": p} for name, p in top]
        print(json.dumps({"path": str(path), "classes": classes}))

    return write


FORMATS = {"table": table, "csv": as_csv, "json": as_json}


def main() -> int:
    """Run the command line."""
    arguments = parser().parse_args()
    run, weights = weights_of(arguments.run)
    classes, top = run.manifest()["classes"], arguments.top
    if top is not None and not 1 <= top <= len(classes):
        raise UserError(f"--top {top}: expected 1 to {len(classes)}, the classes of {run.folder}")
    shift = None
    if arguments.prior is not None:
        shift = adjustment(run, weights, arguments.prior)
    inference = inference_of(arguments)
    trained = load_trained(arguments.run, arguments.device, arguments.fused, inference)
    if shift is not None and trained.config.effective().get("tde"):
        raise UserError(
            "--prior moves logits whose class frequencies are known, and those of TDE are not; add "
            "--no-tde, or leave --prior out"
        )

    number = top or min(3, len(classes))
    write, problems, done = FORMATS[arguments.format](number), Problems(), 0
    inputs = find_inputs(arguments.paths, arguments.root, classes, problems)
    for batch in read_batches(inputs, trained, problems):
        logits = trained.outputs(batch.images).logits
        likeliest = (logits if shift is None else logits + shift).softmax(1).topk(number)
        rows = zip(batch.inputs, likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
        for image, values, indices in rows:
            write(image.path, [(classes[k], p) for k, p in zip(indices, values, strict=True)])
        sys.stdout.flush()
        done += len(batch.inputs)
    if problems.number:
        print(f"classified: {done}, failed: {problems.number} (see above)", file=sys.stderr)
    return 1 if problems.number else 0


if __name__ == "__main__":
    errors.run(main)
