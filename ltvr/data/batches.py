"""Batches of images: a whole batch augmented at once in memory, or read by workers from disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ltvr.clock import mix
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.augmentation import crop_and_flip, draw, flip
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.pictures import Pictures, Wanted
from ltvr.data.splits import Split
from ltvr.data.workers import Readers, require_shared_memory
from ltvr.device import memory_format
from ltvr.transfer import to_device

__all__ = ["Batches"]

Batch = tuple[Tensor, Tensor]


class Batches:
    """Batches of one split for training or evaluation.

    Random augmentation is drawn for a whole batch from (seed, epoch, number of the batch), on the
    host. So a run resumed at any batch sees the same images, and so does one that reads its batches
    in parts, or on another device.

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
        self._memory: Tensor | None = None
        self._readers: Readers | None = None
        if isinstance(images, Tensor):
            self._memory = images.to(device)
        else:
            # Without the hashes, which are a list: each worker that is not forked would copy them.
            pictures = Pictures(replace(images, hashes=[]), self._options)
            pinned, workers = device.type == "cuda", self._options.workers
            self._readers = Readers(pictures, workers, pinned=pinned, look=look)

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

        batches = range(start, number, every)

        def wanted() -> Iterator[Wanted]:
            for batch in batches:
                draws = draw(batch_size, self._options, mix(seed, epoch, batch))
                for part in parts:
                    yield Wanted(chosen[batch][part], draws.take(part))

        yield from self._read(wanted(), max(map(len, parts)), len(batches) * len(parts))

    def evaluate(self, batch_size: int, among: range | None = None) -> Generator[Batch, None, None]:
        """Yield samples in order, without augmentation; the last batch may be smaller.

        Args:
            among: the samples, of step 1; None for all.
        """
        among = range(len(self.split)) if among is None else among
        samples = np.arange(among.start, among.stop, dtype=np.int64)
        starts = range(0, len(samples), batch_size)
        wanted = (Wanted(samples[i : i + batch_size], None) for i in starts)
        yield from self._read(wanted, min(batch_size, len(samples)), len(starts))

    def _read(self, wanted: Iterator[Wanted], rows: int, number: int) -> Iterator[Batch]:
        """Read batches, the largest of ``rows`` images."""
        if self._readers is None:
            for each in wanted:
                self._look()
                yield self._finished(self._from_memory(each)), self.labels[each.samples]
            return
        size = self._options.image_size
        require_shared_memory(self._options.workers, rows * 3 * size * size, number)
        ahead, now = itertools.tee(wanted)
        read = self._readers.read(ahead)
        with closing(read):  # its workers end with it, where it does not come to its end
            for images, each in zip(read, now, strict=True):
                self._look()
                images = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                if each.draws is not None:
                    images = flip(images, each.draws, self._options)
                yield self._finished(images), self.labels[each.samples]

    def _from_memory(self, wanted: Wanted) -> Tensor:
        assert self._memory is not None
        images = self._memory[to_device(torch.from_numpy(wanted.samples), self.device)]
        if wanted.draws is None:
            return images
        return crop_and_flip(images, wanted.draws, self._options)

    def _finished(self, images: Tensor) -> Tensor:
        """Normalised, in the memory format of the configuration."""
        if self.device.type != "cpu":
            images = images.to(torch.float32, memory_format=self._format)
            return images.sub_(self._mean).div_(self._std)
        # 0.15 ms for an image of 224 pixels; (images - mean) / std took 0.86. Half of that was page
        # faults of new memory: NumPy asks for huge pages, of which there are few. Most of the rest
        # was loops over the three channels of one pixel: with a mean and a std as large as an
        # image, a loop runs over a whole image.
        layout = torch.empty_like(images, memory_format=self._format, device="meta").stride()
        floats = torch.from_numpy(np.empty(images.numel(), np.float32))
        floats = floats.as_strided(images.shape, layout).copy_(images)
        mean, std = (
            each.expand_as(images[:1]).contiguous(memory_format=self._format)
            for each in (self._mean, self._std)
        )
        return floats.sub_(mean).div_(std)
