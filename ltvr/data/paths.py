"""Paths of many files in one buffer, which the processes that read them share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ltvr.data.longtail import Int64Array

__all__ = ["Paths"]


class Paths:
    """Paths, in order: the bytes of all, and where each ends.

    Python counts the references to every object, in the object. A process that reads a list of
    paths therefore writes to it, and gets a copy of its own of the memory that it shared with its
    parent: a copy of the list a worker. Two buffers are only read. They are tensors, since these
    are also shared where workers are started anew instead of forked.
    """

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        encoded = [os.fsencode(path) for path in paths]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._bytes = torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy())
        self._ends = torch.from_numpy(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def text(self, index: int) -> str:
        """A path as text: of a ``Path`` Python keeps the parts in a table, which is written to."""
        if not 0 <= index < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        first, last = self._ends[index : index + 2].tolist()
        return os.fsdecode(self._bytes[first:last].numpy().tobytes())

    def __getitem__(self, index: int) -> Path:
        return Path(self.text(index))

    def __iter__(self) -> Iterator[Path]:
        return (self[index] for index in range(len(self)))

    def take(self, chosen: Int64Array) -> Paths:
        """The paths at ``chosen``, in that order."""
        return Paths(self.text(index) for index in chosen.tolist())
