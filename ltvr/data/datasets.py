"""A data set by its options: all of it, one split of it, or labelled images of any place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ltvr.config.config import Config
from ltvr.data import built_in
from ltvr.data.files import Found
from ltvr.data.images import Decoder
from ltvr.data.layouts import find_data, find_labelled, find_split
from ltvr.data.longtail import (
    CIFAR,
    Int64Array,
    imagenet_lt_counts,
    longtail_counts,
    longtail_indices,
)
from ltvr.data.options import DataOptions
from ltvr.data.readable import IN_MEMORY_PIXELS, readable, resizing
from ltvr.data.splits import Data, Ranges, Split, random_images
from ltvr.data.survey import ranges_of
from ltvr.errors import UserError

__all__ = ["load_data", "load_labelled", "load_split", "stub_data"]

BUILT_IN = ("digits", "cifar10", "cifar100")


def load_data(config: Config) -> Data:
    """Load the data set of a configuration, with its long-tailed subset.

    Raises:
        UserError: a folder, list or image that is missing or does not fit.
    """
    options = config.of(DataOptions)
    _check_augmentation(options)
    return _built_in(options) if options.dataset in BUILT_IN else _of_files(options)


def stub_data(config: Config, device: torch.device) -> Data:
    """The data set of a configuration with random images in place of its own, which are not read.

    There are as many of each class as ``load_data`` gives. Those of CIFAR and of ImageNet-LT are
    known; of ImageNet-LT under ``root`` and of other data sets files and lists are counted.

    Args:
        device: where the images are to be: they take no memory there.

    Raises:
        UserError: as ``load_data``, for what can be told without reading an image.
    """
    options = config.of(DataOptions)
    _check_augmentation(options)
    if options.dataset == "digits":
        return load_data(config)
    evaluated: dict[str, int]
    if options.dataset in CIFAR:
        number, each = CIFAR[options.dataset]
        counts, evaluated = np.full(number, each), {"test": 10_000}
    elif options.dataset == "imagenet-lt" and not options.root:
        counts = np.array(imagenet_lt_counts())
        evaluated = {"val": 20_000, "test": 50_000}
    else:
        classes, found = find_data(options)
        counts = np.bincount(found["train"].labels, minlength=len(classes))
        evaluated = {name: len(f.images) for name, f in found.items() if name != "train"}
    classes = [str(k) for k in range(len(counts))]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    chosen = _long_tailed(labels, classes, options)

    def split(of: Int64Array) -> Split:
        return Split(random_images(len(of), options.image_size, device), of, np.arange(len(of)))

    splits = {name: split(np.arange(n) % len(classes)) for name, n in evaluated.items()}
    left_out = len(labels) - len(chosen)
    train = split(labels[chosen])
    return Data(train, splits.get("val"), splits["test"], classes, left_out=left_out)


def _check_augmentation(options: DataOptions) -> None:
    """Refuse an augmentation of files for images that are read into memory."""
    in_memory = options.dataset in BUILT_IN or options.image_size <= IN_MEMORY_PIXELS
    if options.augmentation == "imagenet" and in_memory:
        raise UserError(
            "augmentation imagenet is for images on disk, which are those of more than "
            f"{IN_MEMORY_PIXELS} pixels; use crop-flip, crop or none"
        )


def load_split(config: Config, name: str, classes: list[str], ranges: Ranges) -> Split | None:
    """Load one split of a data set alone: the others need not be there any more.

    Args:
        name: ``val`` or ``test``.
        classes, ranges: of the training images, from the manifest of a run.

    Returns:
        The split; None if the data set has none of this name.

    Raises:
        UserError: as ``load_data``.
    """
    options = config.of(DataOptions)
    if options.dataset in BUILT_IN:
        return None if name == "val" else _built_in(options).test
    found = find_split(options, name, classes)
    return None if found is None else _of_found(name, found, options, ranges)


def load_labelled(
    path: str | Path,
    config: Config,
    classes: list[str],
    ranges: Ranges,
    root: Path | None = None,
) -> Split:
    """Load images with labels from any place.

    Args:
        path: a folder of ``<class>/<image>``, or a list file of lines ``path label``; labels are
            numbers or names of classes.
        classes, ranges: of the training images, from the manifest of a run.
        root: folder that the paths of a list are below; None for the folder of the list.

    Raises:
        UserError: as ``load_data``.
    """
    options = config.of(DataOptions)
    path = Path(path)
    found = find_labelled(path, root or path.parent, classes)
    return _of_found(str(path), found, options, ranges)


def _of_found(name: str, found: Found, options: DataOptions, ranges: Ranges) -> Split:
    read = readable(name, found, options, ranges)
    return read.load_all(Decoder(options.colour, ranges), options)


def _built_in(options: DataOptions) -> Data:
    load = built_in.digits if options.dataset == "digits" else built_in.cifar
    data = load(options)
    chosen = _long_tailed(data.train.labels, data.classes, options)
    left_out = len(data.train) - len(chosen)
    return replace(data, train=data.train.take(chosen), left_out=left_out)


def _of_files(options: DataOptions) -> Data:
    """What is there, what of it can be read, which training images are kept; then the pixels."""
    classes, found = find_data(options)
    train = readable("train", found["train"], options)
    chosen = _long_tailed(train.labels, classes, options)
    decoder = Decoder(options.colour, ranges_of([train.facts[i] for i in chosen]))
    others = {n: readable(n, f, options, decoder.ranges) for n, f in found.items() if n != "train"}
    splits = {"train": train, **others}
    return Data(
        train.load(chosen, decoder, options),
        others["val"].load_all(decoder, options) if "val" in others else None,
        others["test"].load_all(decoder, options),
        classes,
        left_out=len(train.paths) - len(chosen),
        ranges=decoder.ranges,
        unreadable={name: each.unreadable for name, each in splits.items() if each.unreadable},
        advice=resizing(train.facts, options),
    )


def _long_tailed(labels: Int64Array, classes: list[str], options: DataOptions) -> Int64Array:
    """The training samples that are kept: all of them, or those of the long-tailed subset."""
    counts = np.bincount(labels, minlength=len(classes))
    if (counts == 0).any():
        raise UserError(
            f"class {classes[int(np.argmin(counts))]!r} has no training image; "
            "add some, or remove the class"
        )
    if options.imbalance == 1 or options.imbalance_type == "none":
        return np.arange(len(labels), dtype=np.int64)
    kept = longtail_counts(
        int(counts.max()), len(classes), options.imbalance, options.imbalance_type
    )
    if min(kept) == 0:
        raise UserError(
            f"imbalance = {options.imbalance:g}: class {classes[int(np.argmin(kept))]!r} has no "
            f"training image of the {counts.max()} of the largest class left; lower --imbalance"
        )
    return longtail_indices(labels, kept, options.data_seed)
