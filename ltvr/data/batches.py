"""Batches of images: a whole batch augmented at once in memory, or read by workers from disk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ltvr.clock import mix
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.geometry import framed
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.splits import Files, Split, load_picture
from ltvr.data.workers import read_in_workers
from ltvr.device import memory_format
from ltvr.transfer import to_device

__all__ = ["Batches"]

Batch = tuple[Tensor, Tensor]


class Batches:
    """Batches of one split for training or evaluation.

    Random augmentation follows the place of an image in the order of an epoch: it is drawn from
    (seed, epoch, place), or for images in memory from (seed, epoch, batch) for a whole batch at
    once. So a run resumed at any batch sees the same images, and so does one that reads its batches
    in parts.

    Args:
        split: the images.
        config: augmentation, normalisation, image size, workers, layout.
        device: where the images go.
        look: called before every batch, and every second while one is waited for; it may raise.
    """

    def __init__(
        self,
        split: Split,
        config: Config,
        device: torch.device,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._look = look
        self.split, self.config, self.device = split, config, device
        self._options = config.of(DataOptions)
        self.labels = torch.from_numpy(split.labels)
        self._mean = torch.tensor(self._options.mean, device=device).view(3, 1, 1) * 255
        self._std = torch.tensor(self._options.std, device=device).view(3, 1, 1) * 255
        self._format = memory_format(config.of(RunOptions).channels_last)
        images = split.images
        self._memory = images.to(device) if isinstance(images, Tensor) else None

    def train(
        self,
        order: Int64Array,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start: int = 0,
        every: int = 1,
        parts: Sequence[Int64Array] | None = None,
    ) -> Generator[Batch, None, None]:
        """Yield full batches (images [B, 3, S, S] on the device, labels [B] on the host).

        Args:
            order: the samples of the epoch (``ltvr.samplers``); an incomplete last batch is
                dropped.
            start: first batch to yield; the ones before it are passed over without being read.
            every: of the batches from there on, every how many-th is yielded.
            parts: rows of each batch, an array for each part of it that is yielded, in place of
                the batch as a whole; rows that are in none are not read. An image is augmented
                alike whichever part it is in, so that micro-batches and ranks change no image.
        """
        parts = [np.arange(batch_size)] if parts is None else parts
        number = len(order) // batch_size
        chosen = order[: number * batch_size].reshape(number, batch_size)
        if self._memory is None:
            places = [
                batch * batch_size + p for batch in range(start, number, every) for p in parts
            ]
            yield from self._read([order[p] for p in places], places, (seed, epoch))
            return
        rows_of = [to_device(torch.from_numpy(part), self.device) for part in parts]
        for batch in range(start, number, every):
            generator = torch.Generator(self.device).manual_seed(mix(seed, epoch, batch))
            draws = self._draw(batch_size, generator)
            for part, rows in zip(parts, rows_of, strict=True):
                self._look()
                samples = torch.from_numpy(chosen[batch][part])
                images = self._memory[to_device(samples, self.device)]
                yield (
                    self._normalise(self._augment(images, *(each[rows] for each in draws))),
                    self.labels[samples],
                )

    def evaluate(self, batch_size: int, among: range | None = None) -> Generator[Batch, None, None]:
        """Yield samples in order, without augmentation; the last batch may be smaller.

        Args:
            among: the samples, of step 1; None for all.
        """
        among = range(len(self.split)) if among is None else among
        samples = np.arange(among.start, among.stop, dtype=np.int64)
        chosen = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
        if self._memory is None:
            yield from self._read(chosen, chosen, None)
            return
        for batch in chosen:
            self._look()
            rows = torch.from_numpy(batch)
            yield self._normalise(self._memory[to_device(rows, self.device)]), self.labels[rows]

    def _normalise(self, images: Tensor) -> Tensor:
        images = (images.to(torch.float32) - self._mean) / self._std
        return images.contiguous(memory_format=self._format)

    def _draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """How far each image of a batch is moved down and to the right, and whether it is flipped.

        Each is [B, 1], whether it is used or not: numbers that are not drawn would shift others.
        """
        moves = 2 * self._options.crop_padding + 1
        like: dict[str, Any] = {"generator": generator, "device": self.device}
        top = torch.randint(0, moves, (number, 1), **like)
        left = torch.randint(0, moves, (number, 1), **like)
        return top, left, torch.rand((number, 1), **like) < 0.5

    def _augment(self, images: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
        """Zero-pad and crop, then flip, as was drawn: one gather for the batch."""
        kind, pad = self._options.augmentation, self._options.crop_padding
        if kind == "none":
            return images
        number, _, height, width = images.shape
        columns = torch.arange(width, device=self.device).expand(number, width)
        if kind == "crop-flip":
            columns = torch.where(flip, width - 1 - columns, columns)
        rows = torch.arange(height, device=self.device) + top
        columns = columns + left
        padded = F.pad(images, (pad, pad, pad, pad))
        sample = torch.arange(number, device=self.device)[:, None, None]
        cropped = padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
        return cropped.permute(0, 3, 1, 2)

    def _read(
        self,
        chosen: Sequence[Int64Array],
        places: Sequence[Int64Array],
        seed: tuple[int, int] | None,
    ) -> Iterator[Batch]:
        """Read batches from disk with workers.

        Args:
            chosen: the samples of each.
            places: where in the order of the epoch these are.
            seed: with the place, what an image is augmented by; None for evaluation.
        """
        assert not isinstance(self.split.images, Tensor)
        keyed = [
            [(i, 0 if seed is None else mix(*seed, place)) for i, place in zip(*each, strict=True)]
            for each in zip((b.tolist() for b in chosen), (p.tolist() for p in places), strict=True)
        ]
        pictures = _Pictures(self.split.images, self._options, training=seed is not None)
        pinned, workers = self.device.type == "cuda", self._options.workers
        read = read_in_workers(pictures, keyed, workers, pinned=pinned, look=self._look)
        with closing(read):  # its workers end with it, whatever ends this
            for rows, images in zip(chosen, read, strict=True):
                self._look()
                yield (
                    self._normalise(images.to(self.device, non_blocking=True)),
                    self.labels[torch.from_numpy(rows)],
                )


class _Pictures(Dataset[Tensor]):
    """Images on disk under the field's transforms; the index carries its own seed."""

    def __init__(self, files: Files, options: DataOptions, *, training: bool) -> None:
        from torchvision.transforms import v2  # not on top: to read YAML takes no torchvision

        self.files, self.options = files, options
        self.augmentation = options.augmentation if training else "none"
        size, flip = options.image_size, v2.RandomHorizontalFlip()
        crop = v2.RandomCrop(size, padding=options.crop_padding)
        jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.0)
        steps: dict[str, list[Any]] = {
            "imagenet": [v2.RandomResizedCrop(size), flip, jitter, v2.PILToTensor()],
            "crop-flip": [crop, flip],
            "crop": [crop],
            "none": [v2.Identity()],
        }
        self.augment = v2.Compose(steps[self.augmentation])

    def __getitem__(self, index: tuple[int, int]) -> Tensor:
        """The image at a position, augmented by the random numbers of a seed."""
        position, seed = index
        path, decoder, options = self.files.paths[position], self.files.decoder, self.options
        picture: Any
        if self.augmentation == "imagenet":
            image, size = decoder.read(path), options.image_size
            picture = framed(image, size, options.resize, options.colour)
        else:
            picture = load_picture(path, decoder, options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            augmented: Tensor = self.augment(picture)
            return augmented
