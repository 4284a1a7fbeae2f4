"""The data sets: digits, CIFAR, folders of images, and the long-tailed list files."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ltvr.config.config import Config
from ltvr.data.longtail import Int64Array, longtail_counts, longtail_indices
from ltvr.data.options import DataOptions
from ltvr.errors import UserError

__all__ = ["Data", "Split", "in_memory", "load_data", "read_image"]

IN_MEMORY_PIXELS = 64
"""Folders of images up to this side live in memory, larger ones are read by workers."""

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of grey images of 16 bits a pixel."""

LISTS = {
    "imagenet-lt": ("ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt"),
    "places-lt": ("Places_LT_train.txt", "Places_LT_val.txt", "Places_LT_test.txt"),
    "inaturalist18": ("iNaturalist18_train.txt", None, "iNaturalist18_val.txt"),
}
"""Train, validation and test list of each; iNaturalist18 has no labels for its test set."""


@dataclass(frozen=True)
class Split:
    """Images of one split, in memory or on disk, with their labels.

    Attributes:
        images: uint8 [n, 3, S, S], or n paths.
        labels: [n] int64.
        indices: [n] position of each image in the data set it was chosen from.
    """

    images: Tensor | list[Path]
    labels: Int64Array
    indices: Int64Array

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Int64Array) -> Split:
        """Return the samples at ``chosen``, in that order."""
        if isinstance(self.images, Tensor):
            images: Tensor | list[Path] = self.images[torch.from_numpy(chosen)]
        else:
            images = [self.images[i] for i in chosen]
        return Split(images, self.labels[chosen], self.indices[chosen])


@dataclass(frozen=True)
class Data:
    """The splits of a data set and the names of its classes; ``val`` is None where none exists."""

    train: Split
    val: Split | None
    test: Split
    classes: list[str]
    left_out: int = 0
    """Training images that the long-tailed subset does without."""

    @property
    def counts(self) -> Int64Array:
        """[C] training images of each class."""
        return np.bincount(self.train.labels, minlength=len(self.classes)).astype(np.int64)


def load_data(config: Config) -> Data:
    """Load the data set of a configuration, with its long-tailed subset.

    Raises:
        UserError: a folder, list or image that is missing or does not fit.
    """
    options = config.of(DataOptions)
    if options.dataset == "digits":
        data = _digits(options)
    elif options.dataset in ("cifar10", "cifar100"):
        data = _cifar(options)
    elif options.dataset == "folder":
        data = _folder(options)
    else:
        data = _lists(options)
    if options.imbalance > 1 and options.imbalance_type != "none":
        counts = longtail_counts(
            int(data.counts.max()), len(data.classes), options.imbalance, options.imbalance_type
        )
        chosen = longtail_indices(data.train.labels, counts, options.data_seed)
        left_out = len(data.train) - len(chosen)
        data = replace(data, train=data.train.take(chosen), left_out=left_out)
    if (data.counts == 0).any():
        k = int(np.argmin(data.counts))
        raise UserError(
            f"class {data.classes[k]!r} has no training image; "
            "add some, remove the class, or lower --imbalance"
        )
    return data


def read_image(path: Path) -> Image.Image:
    """Read an image as RGB.

    Raises:
        UserError: a missing or corrupt file.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP:  # Pillow would clip what is above 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
            converted: Image.Image = image.convert("RGB")
            return converted
    except FileNotFoundError:
        raise UserError(f"image {path} is missing; restore it") from None
    except Exception as error:  # Pillow's decoders raise many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"image {path} is corrupt ({reason}); replace it") from None


def _split(images: Tensor | list[Path], labels: np.ndarray) -> Split:
    return Split(images, labels.astype(np.int64), np.arange(len(labels), dtype=np.int64))


def _digits(options: DataOptions) -> Data:
    """Scikit-learn's 1,797 real digits: the last 50 of each class are the test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    grey = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(
        grey, size=(options.image_size, options.image_size), mode="bilinear", antialias=True
    )
    images = images.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)
    test = np.concatenate([np.flatnonzero(labels == k)[-50:] for k in range(10)])
    everything = _split(images, labels)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Data(everything.take(train), None, everything.take(test), [str(k) for k in range(10)])


def _cifar(options: DataOptions) -> Data:
    """CIFAR as torchvision reads it; downloaded where it is missing and there is a network."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if options.dataset == "cifar10" else datasets.CIFAR100
    root = Path(options.root or "data")
    splits = []
    for train in (True, False):
        try:
            data = kind(str(root), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{options.dataset} is not in {root} and cannot be downloaded "
                f"({' '.join(str(error).split())}); put it there, or read a folder of images with "
                "--dataset folder --root FOLDER"
            ) from None
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        splits.append(_split(_resized(images, options.image_size), np.asarray(data.targets)))
    return Data(splits[0], None, splits[1], list(data.classes))


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    small = torch.nn.functional.interpolate(images.float(), size=(size, size), mode="bilinear")
    return small.round().clamp(0, 255).to(torch.uint8)


def _folder(options: DataOptions) -> Data:
    """``train/<class>/*`` and ``test/<class>/*`` (and ``val/``), any type Pillow reads."""
    if not options.root:
        raise UserError(
            "dataset folder needs --root FOLDER with train/<class>/* and test/<class>/*"
        )
    root = Path(options.root)
    for name in ("train", "test"):
        if not (root / name).is_dir():
            raise UserError(f"{root / name} is missing; expected {name}/<class>/<image> in {root}")
    classes = sorted(p.name for p in (root / "train").iterdir() if p.is_dir())
    if len(classes) < 2:
        raise UserError(f"{root / 'train'} has {len(classes)} class folders; expected at least 2")
    extensions = set(Image.registered_extensions())

    def read(name: str) -> Split:
        unknown = [p for p in (root / name).iterdir() if p.is_dir() and p.name not in classes]
        if unknown:
            raise UserError(f"{unknown[0]} is a class that {root / 'train'} does not have")
        paths: list[Path] = []
        labels: list[int] = []
        for k, cls in enumerate(classes):
            folder = root / name / cls
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            found = [p for p in files if p.suffix.lower() in extensions]
            if not found and name == "train":
                raise UserError(f"class folder {folder} has no image; add some or remove it")
            paths += found
            labels += [k] * len(found)
        if not paths:
            raise UserError(f"{root / name} has no images; expected {name}/<class>/<image>")
        split = _split(paths, np.asarray(labels))
        return in_memory(split, options.image_size)

    val = read("val") if (root / "val").is_dir() else None
    return Data(read("train"), val, read("test"), classes)


def in_memory(split: Split, size: int) -> Split:
    """Decode small images once; leave large ones on disk."""
    assert not isinstance(split.images, Tensor)
    if size > IN_MEMORY_PIXELS:
        return split

    def decode(path: Path) -> Tensor:
        image = read_image(path)
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        images = torch.stack(list(pool.map(decode, split.images)))
    return replace(split, images=images)


def _lists(options: DataOptions) -> Data:
    """Image root and list files of ``path label`` lines (ImageNet-LT, Places-LT, iNaturalist)."""
    if not options.root:
        raise UserError(f"dataset {options.dataset} needs --root FOLDER, which its lists refer to")
    root, lists = Path(options.root), Path(options.lists or options.root)
    names = LISTS[options.dataset]
    splits = [
        in_memory(_read_list(root, lists / n), options.image_size) if n else None for n in names
    ]
    train, val, test = splits
    assert train is not None and test is not None
    number = int(train.labels.max()) + 1
    if number > len(train):
        raise UserError(
            f"{names[0]}: label {number - 1} is out of range; its {len(train)} images cannot be of "
            f"{number} classes, labels count from 0 without gaps"
        )
    for name, split in zip(names, splits, strict=True):
        if split is not None and split.labels.max() >= number:
            raise UserError(
                f"{name}: label {split.labels.max()} is out of range; the training list has the "
                f"classes 0 to {number - 1}"
            )
    return Data(train, val, test, [str(k) for k in range(number)])


def _read_list(root: Path, path: Path) -> Split:
    if not path.is_file():
        raise UserError(f"list {path} is missing; put it there or name its folder with --lists")
    images, labels = [], []
    for number, image, label in _lines(path):
        if not label.isdecimal() or len(label) > 18:
            raise UserError(f"{path.name} line {number}: label {label!r}: expected an integer >= 0")
        images.append(root / image)
        labels.append(int(label))
    if not images:
        raise UserError(f"list {path} is empty; expected `path label` lines")
    missing = next((p for p in images if not p.is_file()), None)
    if missing is not None:
        raise UserError(f"image {missing} of {path.name} is missing; check --root or the list")
    return _split(images, np.asarray(labels))


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip():
            image, _, label = line.strip().rpartition(" ")
            if not image:
                raise UserError(f"{path.name} line {number}: {line!r}: expected `path label`")
            yield number, image.strip(), label
