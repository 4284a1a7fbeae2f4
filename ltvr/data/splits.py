"""Images with labels: what a data set is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ltvr.data.geometry import squared
from ltvr.data.images import Decoder, content_of
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.paths import Paths

__all__ = ["Data", "Files", "Ranges", "Split", "load_picture", "random_images", "square"]

Ranges = Mapping[str, tuple[float, float]]
"""By kind of deep picture, the values that are black and white."""


@dataclass(frozen=True)
class Files:
    """Images of one split on disk."""

    paths: Paths
    hashes: list[str]
    """sha256 of the content of each."""
    decoder: Decoder
    threads: ClassVar[int | None] = None
    """That may read at once; None for as many as one likes."""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Image.Image:
        """The picture of one.

        Raises:
            UserError: a file that is no picture, or one that the decoder refuses.
        """
        return self.decoder.decode(self.content(index), self.paths.text(index))

    def content(self, index: int) -> bytes:
        """The content of one.

        Raises:
            UserError: it cannot be read.
        """
        return content_of(self.paths.text(index))

    def take(self, chosen: Int64Array) -> Files:
        """Return the files at ``chosen``, in that order."""
        hashes = [self.hashes[i] for i in chosen]
        return replace(self, paths=self.paths.take(chosen), hashes=hashes)


@dataclass(frozen=True)
class Split:
    """Images of one split, in memory or on disk, with their labels.

    Attributes:
        images: uint8 [n, 3, S, S], or n files.
        labels: [n] int64.
        indices: [n] position of each image in the data set it was chosen from.
        paths: the file of each image; empty if they are not from files of their own.
        notes: what a person should know of them, a line each.
    """

    images: Tensor | Files
    labels: Int64Array
    indices: Int64Array
    paths: Paths = field(default_factory=Paths)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Int64Array) -> Split:
        """Return the samples at ``chosen``, in that order."""
        images: Tensor | Files
        if isinstance(self.images, Tensor):
            images = self.images[torch.from_numpy(chosen)]
            paths = self.paths.take(chosen) if len(self.paths) else self.paths
        else:
            images = self.images.take(chosen)
            paths = images.paths
        return Split(images, self.labels[chosen], self.indices[chosen], paths, self.notes)


@dataclass(frozen=True)
class Data:
    """The splits of a data set and the names of its classes; ``val`` is None where none exists."""

    train: Split
    val: Split | None
    test: Split
    """What a run is judged on: the test set, or the hold-out of a run that has one."""
    classes: list[str]
    left_out: int = 0
    """Training images that the long-tailed subset does without."""
    ranges: Ranges = field(default_factory=dict)
    """Of the training images of more than 8 bits; see ``ltvr.data.images.Decoder``."""
    unreadable: dict[str, dict[str, str]] = field(default_factory=dict)
    """By split: images that were skipped because they cannot be read, and why."""
    advice: list[str] = field(default_factory=list)
    """What a person who is about to train on them should know, a line each."""

    @property
    def notes(self) -> list[str]:
        """What a person should know before training: of each split, and the advice."""
        splits = [split for split in (self.train, self.val, self.test) if split is not None]
        return [*(note for split in splits for note in split.notes), *self.advice]

    @property
    def counts(self) -> Int64Array:
        """[C] images of each class that a run trains on, which a hold-out from them is not."""
        return np.bincount(self.train.labels, minlength=len(self.classes)).astype(np.int64)


def random_images(number: int, size: int, device: torch.device) -> Tensor:
    """Images of noise, no two the same: uint8 [number, 3, S, S], read-only.

    They take the memory of one: each begins a byte further in the same noise.
    """
    random = torch.Generator(device).manual_seed(0)
    length = number + 3 * size * size
    noise = torch.randint(0, 256, (length,), dtype=torch.uint8, device=device, generator=random)
    return noise.as_strided((number, 3, size, size), (1, size * size, size, 1))


def load_picture(path: str | Path, decoder: Decoder, options: DataOptions) -> Tensor:
    """One image as evaluation sees it: uint8 [3, S, S].

    Raises:
        UserError: a file that is no picture, or one that the decoder refuses.
    """
    return square(decoder.read(path), options)


def square(image: Image.Image, options: DataOptions) -> Tensor:
    """A picture as evaluation sees it: uint8 [3, S, S]."""
    image = squared(image, options.image_size, options.resize, options.colour)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
