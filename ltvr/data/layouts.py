"""How the images of a data set lie: in a folder of class folders, or in list files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltvr.data.files import Found, class_folders, find_images, numbers_of, read_list
from ltvr.data.options import DataOptions
from ltvr.data.shards import find_shards
from ltvr.errors import Missing, UserError, brief

__all__ = [
    "LISTS",
    "SPLITS",
    "check_filled",
    "check_known",
    "check_labels",
    "check_number",
    "find_data",
    "find_labelled",
    "find_split",
    "splits_of",
]

LISTS = {
    "imagenet-lt": ("ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt"),
    "places-lt": ("Places_LT_train.txt", "Places_LT_val.txt", "Places_LT_test.txt"),
    "inaturalist18": ("iNaturalist18_train.txt", None, "iNaturalist18_val.txt"),
}
"""Train, validation and test list of each; iNaturalist18 has no labels for its test set."""
SPLITS = ("train", "val", "test")


def splits_of(options: DataOptions) -> tuple[str, ...]:
    """The splits that a run reads: not the test set, if it has a hold-out in its place."""
    return SPLITS[:2] if options.holdout else SPLITS


def find_data(options: DataOptions) -> tuple[list[str], dict[str, Found]]:
    """Names of the classes, and the images of every split that there is and that is read.

    Raises:
        UserError: a folder or list that is missing or does not fit.
    """
    if options.dataset == "shards":
        return _shards(options, splits_of(options))
    return _folder(options) if options.dataset == "folder" else _lists(options)


def find_split(options: DataOptions, name: str, classes: list[str]) -> Found | None:
    """The images of one split; None if the data set has none of this name.

    Raises:
        UserError: as ``find_data``.
    """
    if options.dataset == "folder":
        folder = _root(options) / name
        return None if name == "val" and not folder.is_dir() else _classes(folder, classes)
    if options.dataset == "shards":
        known, found = _shards(options, (name,))
        if known != classes:
            raise UserError(f"{options.root} has other classes than the training images")
        return found.get(name)
    path = _list_paths(options)[name]
    return None if path is None else _listed(_root(options), path, classes)


def find_labelled(path: Path, root: Path, classes: list[str]) -> Found:
    """The images of a folder of class folders, or of a list file whose paths are below ``root``.

    Raises:
        UserError: as ``find_data``.
    """
    return _classes(path, classes) if path.is_dir() else _listed(root, path, classes)


def _root(options: DataOptions) -> Path:
    if not options.root:
        wanted = {
            "folder": "with train/<class>/* and test/<class>/*",
            "shards": "that python -m ltvr.shard has written",
        }.get(options.dataset, "which its lists refer to")
        raise UserError(f"dataset {options.dataset} needs --root FOLDER {wanted}")
    return Path(options.root)


def _shards(options: DataOptions, names: tuple[str, ...]) -> tuple[list[str], dict[str, Found]]:
    """What ``ltvr.data.shards`` has written, here or at an address: these splits of it."""
    _root(options)
    return find_shards(options.root, names)


def _folder(options: DataOptions) -> tuple[list[str], dict[str, Found]]:
    """``train/<class>/*`` and ``test/<class>/*`` (and ``val/``)."""
    root = _root(options)
    names = splits_of(options)
    for name in ("train", "test"):
        if name in names and not (root / name).is_dir():
            without = " (or, without a test set, --holdout)" if name == "test" else ""
            raise Missing(
                f"{root / name} is missing; expected {name}/<class>/<image> in {root}{without}"
            )
    classes = class_folders(root / "train", Found())
    check_number(root / "train", classes)
    found = {name: _classes(root / name, classes) for name in names if (root / name).is_dir()}
    for k, count in enumerate(np.bincount(found["train"].labels, minlength=len(classes))):
        check_filled(root / "train" / classes[k], count)
    return classes, found


def _classes(folder: Path, classes: list[str]) -> Found:
    """The images of a folder of class folders.

    Raises:
        UserError: a folder of another class, or no image.
    """
    found = Found()
    for name in class_folders(folder, found):
        check_known(folder / name, classes)
    for k, name in enumerate(classes):
        if (folder / name).is_dir():
            find_images(folder / name, found, k)
    if not found.images:
        raise UserError(f"{folder} has no images; expected <class>/<image> in it")
    return found


def _list_paths(options: DataOptions) -> dict[str, Path | None]:
    lists = Path(options.lists or options.root)
    names = dict(zip(SPLITS, LISTS[options.dataset], strict=True))
    return {split: lists / name if name else None for split, name in names.items()}


def _lists(options: DataOptions) -> tuple[list[str], dict[str, Found]]:
    """Image root and list files of ``path label`` lines (ImageNet-LT, Places-LT, iNaturalist)."""
    root, paths = _root(options), _list_paths(options)
    assert paths["train"] is not None
    train = _listed(root, paths["train"])
    check_labels(paths["train"].name, train.labels)
    classes = [str(k) for k in range(max(train.labels) + 1)]
    others = {n: _listed(root, p, classes) for n in splits_of(options)[1:] if (p := paths[n])}
    return classes, {"train": train, **others}


def _listed(root: Path, path: Path, classes: list[str] | None = None) -> Found:
    """The images of a list file.

    Args:
        root: folder that the paths in it are below.
        classes: names that labels may be, and the number that they are below.

    Raises:
        UserError: a line or label that does not fit, or no image that is there.
    """
    found = Found()
    lines = list(read_list(path))
    labels = numbers_of([label for _, _, label in lines], classes or [])
    for (line, image, label), number in zip(lines, labels, strict=True):
        if number is None:
            known = "an integer >= 0" if classes is None else "the number or the name of a class"
            heading = " (or is this a heading? remove it)" if line == 1 else ""
            if any(" " in name for name in classes or ()):
                known += ", one with spaces in quotes"
            raise UserError(
                f"{path.name} line {line}: label {brief(label)}: expected {known}{heading}"
            )
        found.images.append(root / image)
        found.labels.append(number)
    if not found.images:
        raise UserError(f"list {path} is empty; expected `path label` lines")
    if classes is not None:
        check_labels(path.name, found.labels, len(classes))
    if not any(image.exists() for image in found.images):
        encoding = "" if str(found.images[0]).isprintable() else " (the list is not UTF-8)"
        raise Missing(
            f"image {found.images[0]} of {path.name} is missing{encoding}, and so are all others; "
            "check --root or the list"
        )
    return found


# ---- what a run stops at, and ``ltvr.data.audit`` notes ----


def check_number(folder: Path, classes: Sequence[str]) -> None:
    """Refuse a folder of training images with fewer than two class folders."""
    if len(classes) < 2:
        raise UserError(f"{folder} has {len(classes)} class folders; expected at least 2")


def check_known(folder: Path, classes: Sequence[str]) -> None:
    """Refuse a class folder whose name is none of the ``classes`` of the training images."""
    if folder.name not in classes:
        raise UserError(
            f"{folder} is a class that the training images do not have; rename it, or remove it"
        )


def check_filled(folder: Path, images: int) -> None:
    """Refuse a class folder of training images that has none."""
    if not images:
        raise UserError(f"class folder {folder} has no image; add some or remove it")


def check_labels(name: str, labels: Sequence[int], classes: int | None = None) -> None:
    """Refuse a list whose labels are not those of classes 0 to C - 1.

    Args:
        name: of the list.
        labels: of its images, at least one.
        classes: C, which the training list has told; None where this is the training list.
    """
    largest = max(labels)
    if classes is not None:
        if largest >= classes:
            raise UserError(
                f"{name}: label {largest} is out of range; the training images have the classes "
                f"0 to {classes - 1}"
            )
        return
    if largest >= len(labels):
        raise UserError(
            f"{name}: label {largest} is out of range; its {len(labels)} images cannot be of "
            f"{largest + 1} classes, labels count from 0 without gaps"
        )
    absent = np.setdiff1d(np.arange(largest + 1), labels)
    if absent.tolist() == [0]:
        raise UserError(f"{name}: labels start at 1; expected 0: subtract 1 from all")
    if len(absent):
        raise UserError(
            f"{name}: class '{absent[0]}' has no training image; labels count from 0 without gaps, "
            f"and the largest here is {largest}"
        )
    if largest < 1:
        raise UserError(f"{name} has 1 class; expected at least 2")
