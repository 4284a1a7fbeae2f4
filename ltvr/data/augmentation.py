"""Random changes of training images: what is drawn for a batch, and what it does to its images.

Everything is drawn on the host for a whole batch at once, before any image is read: an image is
changed alike in whichever process, on whichever device and in whichever part of its batch it is.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from torch import Tensor

from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.transfer import to_device

__all__ = [
    "Draws",
    "Pixels",
    "crop_and_flip",
    "draw",
    "flip",
    "jittered",
    "moved",
    "random_resized_crop",
]

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Of random resized crops: their share of the picture's area, and their width : height."""
TRIES = 10
"""To find one that lies in the picture."""
CHANGES = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
ORDERS = tuple(itertools.permutations(range(len(CHANGES))))
UNIFORMS = 2 * TRIES + 2 + len(CHANGES) + 1
"""Numbers that an image of the augmentation ``imagenet`` takes."""

Uniforms = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


class Draws(NamedTuple):
    """What was drawn for the images of a batch."""

    top: Int64Array
    """[B] rows of padding that are cut off above, of twice ``crop_padding``."""
    left: Int64Array
    """[B] columns, on the left."""
    flip: Flags
    """[B] whether it is mirrored."""
    uniforms: Uniforms
    """[B, UNIFORMS] in [0, 1), for the random resized crop and the colours; [B, 0] without."""

    def take(self, rows: Int64Array) -> Draws:
        """What was drawn for the images at ``rows``."""
        return Draws(self.top[rows], self.left[rows], self.flip[rows], self.uniforms[rows])


def draw(number: int, options: DataOptions, seed: int) -> Draws:
    """Draw for a batch of ``number`` images; a pure function."""
    generator = torch.Generator().manual_seed(seed)
    moves = 2 * options.crop_padding + 1
    top = torch.randint(0, moves, (number,), generator=generator)
    left = torch.randint(0, moves, (number,), generator=generator)
    mirrored = torch.rand(number, generator=generator) < 0.5
    each = UNIFORMS if options.augmentation == "imagenet" else 0
    uniforms = torch.rand((number, each), generator=generator, dtype=torch.float64)
    return Draws(top.numpy(), left.numpy(), mirrored.numpy(), uniforms.numpy())


# ---- a batch, on its device ----


def crop_and_flip(images: Tensor, draws: Draws, options: DataOptions) -> Tensor:
    """Zero-pad and crop images [B, 3, H, W], then flip them: one gather for the batch."""
    if options.augmentation == "none":
        return images
    device, pad = images.device, options.crop_padding
    number, _, height, width = images.shape
    top, left, mirrored = (to_device(torch.from_numpy(each)[:, None], device) for each in draws[:3])
    columns = torch.arange(width, device=device).expand(number, width)
    if options.augmentation == "crop-flip":
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows, columns = torch.arange(height, device=device) + top, columns + left
    padded = F.pad(images, (pad, pad, pad, pad))
    sample = torch.arange(number, device=device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def flip(images: Tensor, draws: Draws, options: DataOptions) -> Tensor:
    """Flip images [B, 3, H, W], maybe in place, that were cropped by who read them."""
    if options.augmentation not in ("crop-flip", "imagenet"):
        return images
    if images.device.type == "cpu":  # where a launch costs nothing, and a choice by the byte much
        for row in draws.flip.nonzero()[0].tolist():
            images[row] = images[row].flip(-1)
        return images
    mirrored = to_device(torch.from_numpy(draws.flip), images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


# ---- one image, on the host ----


def moved(image: Pixels, top: int, left: int, pad: int) -> Pixels:
    """``image`` [H, W, 3], zero-padded and cropped to its size."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return padded[top : top + height, left : left + width]


def random_resized_crop(image: Image.Image, size: int, uniforms: Uniforms) -> Image.Image:
    """A random part of a picture, resized to a square of ``size``.

    Args:
        uniforms: those of an image in ``Draws``.
    """
    box = _random_box(image.width, image.height, uniforms[: 2 * TRIES + 2].tolist())
    return image.crop(box).resize((size, size), Image.Resampling.BILINEAR)


def _random_box(width: int, height: int, uniforms: list[float]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part: as of torchvision's ``RandomResizedCrop``."""
    lowest, highest = map(math.log, RATIO)
    down, right = uniforms[2 * TRIES :]
    for k in range(TRIES):
        area = width * height * (SCALE[0] + (SCALE[1] - SCALE[0]) * uniforms[2 * k])
        ratio = math.exp(lowest + (highest - lowest) * uniforms[2 * k + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(right * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    # The middle, in the proportions that are nearest to the picture's.
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    w, h = max(w, 1), max(h, 1)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jittered(image: Image.Image, strength: float, uniforms: Uniforms) -> Image.Image:
    """A picture of changed brightness, contrast and saturation, in random order.

    Args:
        strength: each is multiplied by a number within 1 - strength and 1 + strength.
        uniforms: those of an image in ``Draws``.
    """
    *shares, order = uniforms[2 * TRIES + 2 :].tolist()
    for k in ORDERS[int(order * len(ORDERS))]:
        image = CHANGES[k](image).enhance(1 + strength * (2 * shares[k] - 1))
    return image
