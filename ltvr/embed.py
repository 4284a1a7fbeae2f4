"""``python -m ltvr.embed RUN [DATA...] --out FILE.npz``: what the classifier reads, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltvr import errors
from ltvr.config.command_line import Parser, flag
from ltvr.data.splits import Split
from ltvr.engine.inputs import Problems, find_inputs, read_batches
from ltvr.engine.source import add_source, load_source, source_of
from ltvr.engine.trained import (
    Trained,
    add_device,
    add_inference,
    inference_of,
    load_trained,
    trained_parser,
)
from ltvr.errors import UserError, shown
from ltvr.losses.base import Outputs
from ltvr.runs.output import output
from ltvr.saying import say_notes

__all__ = ["main"]

Labelled = tuple[Tensor, list[str], list[int]]
"""Images of a batch, their paths, and their classes or -1."""


def parser() -> Parser:
    """Build the command line."""
    p = trained_parser(
        "embed",
        "Write the embeddings and logits of images, and what the images are, to a file that "
        "numpy.load reads: embeddings [n, E] and logits [n, C] float32, paths [n], labels [n] "
        "int64 (-1 where unknown), classes [C].",
    )
    p.add_argument(
        "data",
        metavar="DATA",
        nargs="*",
        help="images, folders, patterns, lists, or - for a list on stdin, as for predict, with "
        "its --root; classes are those that lists say, or the folders in a folder; by default the "
        "split of the run",
    )
    add_source(p)
    add_device(p)
    add_inference(p)
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz to write")
    return p


def of_split(trained: Trained, split: Split) -> Iterator[Labelled]:
    """Batches of a split that was loaded; an image without a file is named by its position."""
    paths = map(str, split.paths or split.indices)
    for images, labels in trained.batches(split):
        yield images, list(islice(paths, len(images))), labels.tolist()


def of_paths(
    trained: Trained, given: list[str], root: str | None, problems: Problems
) -> Iterator[Labelled]:
    """Batches of images that were named."""
    inputs = find_inputs(given, None if root is None else Path(root), trained.classes, problems)
    for batch in read_batches(inputs, trained, problems):
        yield (
            batch.images,
            [str(each.path) for each in batch.inputs],
            [each.label for each in batch.inputs],
        )


def main() -> int:
    """Run the command line."""
    arguments = parser().parse_args()
    if arguments.data:
        for name in ("split", "lists", "bad_images"):
            if getattr(arguments, name) is not None:
                raise UserError(f"{flag(name)} is of the run's own images; leave it or DATA out")
    if arguments.out.suffix != ".npz":
        raise UserError(f"--out {shown(arguments.out)}: expected a name with .npz at the end")
    problems = Problems()
    with output(arguments.out, "--out", binary=True) as file:
        inference = inference_of(arguments)
        trained = load_trained(arguments.run, arguments.device, arguments.fused, inference)
        if arguments.data:
            batches = of_paths(trained, arguments.data, arguments.root, problems)
        else:
            source = source_of(arguments, None)
            split = load_source(source, trained.run, trained.config)
            say_notes(split.notes)
            batches = of_split(trained, split)
        paths: list[str] = []
        labels: list[int] = []
        found: list[Outputs] = []
        for images, names, numbers in batches:
            found.append(trained.outputs(images))
            paths += names
            labels += numbers
        if not found:
            raise UserError("no image could be read; nothing was written")
        np.savez(
            file,
            embeddings=torch.cat([each.embeddings for each in found]).numpy(),
            logits=torch.cat([each.logits for each in found]).numpy(),
            paths=np.asarray(paths),
            labels=np.asarray(labels, np.int64),
            classes=np.asarray(trained.classes),
        )
    unknown = labels.count(-1)
    print(f"{shown(arguments.out)}: {len(paths)} images, {unknown} of unknown class")
    return 1 if problems.number else 0


if __name__ == "__main__":
    errors.run(main)
