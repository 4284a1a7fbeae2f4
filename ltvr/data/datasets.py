"""A data set by its options: all of it, one split of it, or labelled images of any place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ltvr.config.config import Config
from ltvr.data.built_in import BUILT_IN, load_built_in
from ltvr.data.files import Found
from ltvr.data.holdout import (
    described,
    hold_out_of_training,
    hold_out_of_validation,
    require_source,
)
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


def load_data(config: Config) -> Data:
    """Load the data set of a configuration, with its long-tailed subset and its hold-out.

    Of a run with a hold-out the test set is not read, and need not be there.

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
    if options.dataset in CIFAR:
        number, each = CIFAR[options.dataset]
        labels = {"train": np.repeat(np.arange(number), each), "test": np.arange(10_000) % number}
    elif options.dataset == "imagenet-lt" and not options.root:
        counts = imagenet_lt_counts()
        number, labels = len(counts), {"train": np.repeat(np.arange(len(counts)), counts)}
        labels |= {"val": np.arange(20_000) % number, "test": np.arange(50_000) % number}
    else:
        classes, found = find_data(options)
        number = len(classes)
        labels = {name: np.asarray(each.labels) for name, each in found.items()}
    classes = [str(k) for k in range(number)]

    def load(name: str, chosen: Int64Array | None) -> Split:
        own = labels[name] if chosen is None else labels[name][chosen]
        images = random_images(len(own), options.image_size, device)
        return Split(images, own, np.arange(len(own)))

    require_source(options, labels)
    parts = _parts(labels["train"], classes, options)
    return _assembled(parts, labels, load, classes, options)


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
        return load_built_in(options, [name])[1].get(name)
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


class _Parts(NamedTuple):
    """What becomes of the training images of a data set: positions among them."""

    train: Int64Array
    """Those that a run trains on."""
    held: Int64Array
    """Those of its hold-out; none where it has none, or takes it from the validation split."""
    left_out: int
    """How many the long-tailed subset does without."""


def _parts(labels: Int64Array, classes: list[str], options: DataOptions) -> _Parts:
    kept, held = _long_tailed(labels, classes, options), np.zeros(0, np.int64)
    if options.holdout and options.holdout_from != "val":
        held = hold_out_of_training(labels, kept, classes, options)
    return _Parts(kept[~np.isin(kept, held)], held, len(labels) - len(kept))


def _assembled(
    parts: _Parts,
    labels: Mapping[str, Int64Array],
    load: Callable[[str, Int64Array | None], Split],
    classes: list[str],
    options: DataOptions,
    advice: list[str] | None = None,
    **more: Any,
) -> Data:
    """The data set of a run: what it trains on, and the test set or the hold-out in its place.

    Args:
        labels: of the images of each split that there is.
        load: the images of a split at these positions, or all of them.
        advice, more: of ``Data``.
    """
    advice, train = advice or [], load("train", parts.train)
    val = load("val", None) if "val" in labels else None
    if not options.holdout:
        test = load("test", None)
    elif options.holdout_from == "val":
        test, val = load("val", hold_out_of_validation(labels["val"], classes, options)), None
    else:
        test = replace(load("train", parts.held), notes=[])  # those are the training images'
    if options.holdout:
        counts = np.bincount(test.labels, minlength=len(classes))
        advice = [*advice, described(options, counts.tolist())]
    return Data(train, val, test, classes, left_out=parts.left_out, advice=advice, **more)


def _built_in(options: DataOptions) -> Data:
    require_source(options, ["train", "test"])
    classes, splits = load_built_in(options, ["train"] if options.holdout else ["train", "test"])
    labels = {name: split.labels for name, split in splits.items()}

    def load(name: str, chosen: Int64Array | None) -> Split:
        return splits[name] if chosen is None else splits[name].take(chosen)

    parts = _parts(labels["train"], classes, options)
    return _assembled(parts, labels, load, classes, options)


def _of_files(options: DataOptions) -> Data:
    """What is there, what of it can be read, which training images are kept; then the pixels."""
    classes, found = find_data(options)
    require_source(options, found)
    train = readable("train", found["train"], options)
    parts = _parts(train.labels, classes, options)
    decoder = Decoder(options.colour, ranges_of([train.facts[i] for i in parts.train]))
    for i in parts.held:
        if (kind := train.facts[i].kind) and (why := decoder.refusal(train.paths[i], kind)):
            raise UserError(why)
    others = {n: readable(n, f, options, decoder.ranges) for n, f in found.items() if n != "train"}
    splits = {"train": train, **others}

    def load(name: str, chosen: Int64Array | None) -> Split:
        if chosen is None:
            return splits[name].load_all(decoder, options)
        return splits[name].load(chosen, decoder, options)

    return _assembled(
        parts,
        {name: each.labels for name, each in splits.items()},
        load,
        classes,
        options,
        resizing(train.facts, options),
        ranges=decoder.ranges,
        unreadable={name: each.unreadable for name, each in splits.items() if each.unreadable},
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
            f"training image of the {counts.max()} of the largest class left; lower "
            "--imbalance, of which 1 keeps all images"
        )
    return longtail_indices(labels, kept, options.data_seed)
