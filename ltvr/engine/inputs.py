"""Images that a command is given by name: found, read beside the network, batch after batch."""

from __future__ import annotations

import glob
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.files import (
    Found,
    find_images,
    is_number,
    match_images,
    numbers_of,
    read_lines,
    split_line,
)
from ltvr.data.images import Decoder, endings
from ltvr.data.options import DataOptions
from ltvr.data.splits import Split, load_picture
from ltvr.engine.trained import Trained
from ltvr.errors import UserError, shown

__all__ = ["Batch", "Input", "Problems", "find_inputs", "read_batches"]

LIST_ENDINGS = (".txt", ".csv")
BATCH = 64
"""Images a batch at most: results come while the rest is read, and few are in memory."""


class Problems:
    """What could not be done: one line each on stderr."""

    def __init__(self) -> None:
        self.number = 0

    def add(self, problem: object) -> None:
        """Say and count a problem."""
        self.number += 1
        print(f"error: {shown(problem)}", file=sys.stderr, flush=True)


class Input(NamedTuple):
    """An image file, and what it is said to be."""

    path: Path
    label: int = -1
    """Its class by its list, or by the folder that it is in; -1 where neither says a known one."""


class Batch(NamedTuple):
    """Images that were read."""

    inputs: list[Input]
    images: Tensor
    """[B, 3, S, S] float32, normalised, on the device."""


def find_inputs(
    given: Iterable[str], root: Path | None, classes: list[str], problems: Problems
) -> Iterator[Input]:
    """Yield the images that are named, in order; where there are none is a problem.

    Args:
        given: files, folders (with the folders in them, without what is hidden), patterns, lists
            (``.txt``, ``.csv``) of ``path`` or ``path label`` lines, or ``-`` for a list on stdin.
        root: folder that relative paths of lists are below; by default that of the list, and for
            stdin the current one.
        classes: names that folders in a folder, and labels of lists, may have; labels may be
            numbers too.

    Raises:
        UserError: ``root`` where there is no list.
    """
    given, numbers = list(given), {each: k for k, each in enumerate(classes)}
    if root is not None and not any(map(_is_list, given)):
        raise UserError(f"--root {root} is for the paths of lists, and none is given; leave it out")
    for name in given:
        path = Path(name)
        try:
            if name == "-":
                lines = (os.fsdecode(line).strip() for line in sys.stdin.buffer)
                yield from _listed(filter(None, lines), "stdin", root or Path(), classes)
            elif os.path.isdir(name):
                found = Found()
                find_images(path, found)
                _note(name, found)
                for image in found.images:
                    first = image.relative_to(path).parts[0]  # its own name in no class folder
                    yield Input(image, numbers.get(first, -1) if image.parent != path else -1)
            elif glob.has_magic(name) and not os.path.lexists(name):
                found = Found()
                match_images(name, found)
                _note(name, found)
                yield from map(Input, found.images)
            elif _is_list(name):
                lines = (line for _, line in read_lines(path))
                yield from _listed(lines, name, root or path.parent, classes)
            else:
                _refuse_absent(name)
                yield Input(path)
        except UserError as error:
            problems.add(error)


def read_batches(inputs: Iterable[Input], trained: Trained, problems: Problems) -> Iterator[Batch]:
    """Read images as evaluation sees them, in order, while the caller works on the batch before.

    What cannot be read is a problem, and left out.
    """
    options, config = trained.config.of(DataOptions), trained.config
    decoder = Decoder(options.colour, trained.run.ranges())
    size = min(BATCH, config.of(RunOptions).eval_batch_size)
    read: list[Input] = []
    pictures: list[Tensor] = []

    def batch() -> Batch:
        zeros = np.zeros(len(read), np.int64)
        batches = Batches(Split(torch.stack(pictures), zeros, zeros), config, trained.device)
        images, _ = next(batches.evaluate(len(read)))
        return Batch(list(read), images)

    waiting: deque[tuple[Input, Future[Tensor]]] = deque()
    pool = ThreadPoolExecutor()
    try:
        for each in _and_then_none(inputs):
            if each is not None:
                waiting.append((each, pool.submit(load_picture, each.path, decoder, options)))
            while waiting and (each is None or len(waiting) > 2 * size):
                first, future = waiting.popleft()
                try:
                    pictures.append(future.result())
                    read.append(first)
                except UserError as error:
                    problems.add(error)
                if len(read) == size:
                    yield batch()
                    read.clear()
                    pictures.clear()
        if read:
            yield batch()
    finally:
        pool.shutdown(cancel_futures=True)


def _is_list(name: str) -> bool:
    return name == "-" or (Path(name).suffix.lower() in LIST_ENDINGS and os.path.isfile(name))


def _refuse_absent(name: str) -> None:
    """Refuse a name of nothing; what may not be looked at is for its reader to say."""
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{name}: there is no image, folder or list of this name") from None
    except (OSError, ValueError):
        pass


def _and_then_none(inputs: Iterable[Input]) -> Iterator[Input | None]:
    yield from inputs
    yield None


def _listed(lines: Iterable[str], name: str, root: Path, classes: list[str]) -> Iterator[Input]:
    """The images of lines as they come: a whole line if that is a file or ends like an image."""
    rows: Iterable[tuple[Path, str]] = (_image_and_label(line, root) for line in lines)
    labels: dict[str, int | None] = {name: k for k, name in enumerate(classes)}
    if any(map(is_number, classes)):  # it takes all labels to tell names from numbers
        all_rows = list(rows)
        given = [label for _, label in all_rows if label]
        labels, rows = dict(zip(given, numbers_of(given, classes), strict=True)), all_rows
    empty = True
    for image, label in rows:
        empty = False
        number = labels.get(label, int(label) if is_number(label) else None)
        yield Input(image, number if number is not None and number < len(classes) else -1)
    if empty:
        raise UserError(f"{name} has no lines; expected `path` or `path label`")


def _image_and_label(line: str, root: Path) -> tuple[Path, str]:
    whole = root / line.strip('"')
    if os.path.isfile(whole) or whole.suffix.lower() in endings():
        return whole, ""
    image, label = split_line(line)
    return root / image, label


def _note(name: str, found: Found) -> None:
    """Say what of a folder or pattern was passed over; nothing left of it is an error."""
    passed = f"passed over {found.summary()}" if found.skipped else ""
    if not found.images:
        raise UserError(f"{name} has no images{'; ' + passed if passed else ''}")
    if passed:
        print(shown(f"{name}: {passed}"), file=sys.stderr, flush=True)
