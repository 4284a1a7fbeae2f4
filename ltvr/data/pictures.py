"""Batches of images on disk, as the processes that read them give them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ltvr.data.augmentation import Draws, Pixels, jittered, moved, random_resized_crop
from ltvr.data.geometry import framed, squared
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.splits import Files
from ltvr.errors import UserError

__all__ = ["Pictures", "Wanted"]


class Wanted(NamedTuple):
    """A batch that is to be read."""

    samples: Int64Array
    """[B] positions of its images."""
    draws: Draws | None
    """What changes them; None for the images that evaluation sees."""


class Pictures(Dataset[Tensor]):
    """Batches of files: uint8 [B, S, S, 3], cropped, and not flipped yet.

    Args:
        files: the images.
        options: what becomes of them.
    """

    def __init__(self, files: Files, options: DataOptions) -> None:
        self._files, self._options = files, options

    def __getitem__(self, wanted: Wanted) -> Tensor:
        """Read a batch; in a worker into memory that its parent shares.

        Raises:
            UserError: an image that cannot be read, or too little shared memory.
        """
        size = self._options.image_size
        batch = torch.empty((len(wanted.samples), size, size, 3), dtype=torch.uint8)
        if get_worker_info() is not None:
            try:  # as torch would later, in a thread whose errors nobody sees
                batch.share_memory_()
            except (RuntimeError, OSError) as error:
                raise UserError(
                    f"shared memory is used up ({str(error).splitlines()[0]}); say --workers 0, or "
                    "give the container more (docker run --shm-size 2g)"
                ) from None
        pixels = batch.numpy()
        for row, sample in enumerate(wanted.samples.tolist()):
            pixels[row] = self._read(sample, wanted.draws, row)
        return batch

    def _read(self, sample: int, draws: Draws | None, row: int) -> Image.Image | Pixels:
        """One image, by what was drawn for a row."""
        options, size = self._options, self._options.image_size
        image, look = self._files.read(sample), (options.resize, options.colour)
        if draws is None or options.augmentation == "none":
            return squared(image, size, *look)
        if options.augmentation != "imagenet":
            pixels = np.asarray(squared(image, size, *look))
            return moved(pixels, draws.top[row], draws.left[row], options.crop_padding)
        image = random_resized_crop(framed(image, size, *look), size, draws.uniforms[row])
        if options.colour_jitter:
            image = jittered(image, options.colour_jitter, draws.uniforms[row])
        return image
