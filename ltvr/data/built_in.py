"""The data sets that other packages bring: scikit-learn's digits, torchvision's CIFAR."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ltvr.data.geometry import squared
from ltvr.data.options import DataOptions
from ltvr.data.splits import Split
from ltvr.errors import UserError

__all__ = ["BUILT_IN", "load_built_in"]

BUILT_IN = ("digits", "cifar10", "cifar100")
"""The data sets that are here; they have a training and a test split."""


def load_built_in(
    options: DataOptions, names: Collection[str]
) -> tuple[list[str], dict[str, Split]]:
    """Names of the classes, and those of the splits ``train`` and ``test`` that are in ``names``.

    Raises:
        UserError: images that are missing, or options that do not fit them.
    """
    return _digits(options, names) if options.dataset == "digits" else _cifar(options, names)


def _digits(options: DataOptions, names: Collection[str]) -> tuple[list[str], dict[str, Split]]:
    """Scikit-learn's 1,797 real digits: the last 50 of each class are the test set."""
    from sklearn.datasets import load_digits

    if options.resize != "squash":
        raise UserError(f"resize = {options.resize}: the digits are squares; leave out --resize")
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    grey = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(
        grey, size=(options.image_size, options.image_size), mode="bilinear", antialias=True
    )
    images = images.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)
    test = np.concatenate([np.flatnonzero(labels == k)[-50:] for k in range(10)])
    everything = _split(images, labels)
    rows = {"train": np.setdiff1d(np.arange(len(labels)), test), "test": test}
    splits = {name: everything.take(rows[name]) for name in rows if name in names}
    return [str(k) for k in range(10)], splits


def _cifar(options: DataOptions, names: Collection[str]) -> tuple[list[str], dict[str, Split]]:
    """CIFAR as torchvision reads it; downloaded where it is missing and there is a network."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if options.dataset == "cifar10" else datasets.CIFAR100
    root = Path(options.root or "data")
    splits: dict[str, Split] = {}
    for name in ("train", "test"):
        if name not in names:
            continue
        try:
            data = kind(str(root), train=name == "train", download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{options.dataset} is not in {root} and cannot be downloaded "
                f"({' '.join(str(error).split())}); put its folder {kind.base_folder} there, or "
                "read image files with --dataset folder --root FOLDER (ltvr.reproduce: --images)"
            ) from None
        splits[name] = _split(_resized(data.data, options), np.asarray(data.targets))
    return list(data.classes), splits


def _resized(pixels: np.ndarray, options: DataOptions) -> Tensor:
    """Pixels [n, H, W, 3] as uint8 [n, 3, S, S], by the rule that files are resized by."""
    size = options.image_size
    if pixels.shape[1:3] != (size, size) or options.resize == "short-side-crop":
        images = (Image.fromarray(each) for each in pixels)
        square = (squared(each, size, options.resize, options.colour) for each in images)
        pixels = np.stack([np.asarray(each) for each in square])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _split(images: Tensor, labels: np.ndarray) -> Split:
    return Split(images, labels.astype(np.int64), np.arange(len(labels), dtype=np.int64))
