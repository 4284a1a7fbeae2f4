"""The data sets: digits, CIFAR, folders of images, and the long-tailed list files."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ltvr.config.config import Config
from ltvr.data.files import Found, class_folders, find_images, read_list
from ltvr.data.geometry import describe, squared
from ltvr.data.images import Decoder
from ltvr.data.longtail import Int64Array, longtail_counts, longtail_indices
from ltvr.data.options import DataOptions
from ltvr.data.survey import Facts, ranges_of, survey
from ltvr.errors import UserError

__all__ = ["Data", "Files", "Split", "load_data", "load_labelled", "load_picture", "load_split"]

IN_MEMORY_PIXELS = 64
"""Images of files are kept in memory up to this side; larger ones are read by workers."""

LISTS = {
    "imagenet-lt": ("ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt"),
    "places-lt": ("Places_LT_train.txt", "Places_LT_val.txt", "Places_LT_test.txt"),
    "inaturalist18": ("iNaturalist18_train.txt", None, "iNaturalist18_val.txt"),
}
"""Train, validation and test list of each; iNaturalist18 has no labels for its test set."""
SPLITS = ("train", "val", "test")

SMALL, MUCH_LARGER = 112, 3
"""Images of fewer pixels than the one, from some the other times as large, lose much."""

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Files:
    """Images of one split on disk."""

    paths: list[Path]
    hashes: list[str]
    """sha256 of the content of each."""
    decoder: Decoder

    def take(self, chosen: Int64Array) -> Files:
        """Return the files at ``chosen``, in that order."""
        paths, hashes = ([each[i] for i in chosen] for each in (self.paths, self.hashes))
        return Files(paths, hashes, self.decoder)


@dataclass(frozen=True)
class Split:
    """Images of one split, in memory or on disk, with their labels.

    Attributes:
        images: uint8 [n, 3, S, S], or n files.
        labels: [n] int64.
        indices: [n] position of each image in the data set it was chosen from.
    """

    images: Tensor | Files
    labels: Int64Array
    indices: Int64Array

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Int64Array) -> Split:
        """Return the samples at ``chosen``, in that order."""
        images: Tensor | Files
        if isinstance(self.images, Tensor):
            images = self.images[torch.from_numpy(chosen)]
        else:
            images = self.images.take(chosen)
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
    ranges: Ranges = field(default_factory=dict)
    """Of the training images of more than 8 bits; see ``ltvr.data.images.Decoder``."""
    unreadable: dict[str, dict[str, str]] = field(default_factory=dict)
    """By split: images that were skipped because they cannot be read, and why."""
    notes: list[str] = field(default_factory=list)
    """What a person should know before training, a line each."""

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
    in_memory = options.dataset in ("digits", "cifar10", "cifar100")
    if options.augmentation == "imagenet" and (in_memory or options.image_size <= IN_MEMORY_PIXELS):
        raise UserError(
            "augmentation imagenet is for images on disk, which are those of more than "
            f"{IN_MEMORY_PIXELS} pixels; use crop-flip, crop or none"
        )
    if not in_memory:
        return _of_files(options)
    data = _digits(options) if options.dataset == "digits" else _cifar(options)
    chosen = _long_tailed(data.train.labels, data.classes, options)
    left_out = len(data.train) - len(chosen)
    return replace(data, train=data.train.take(chosen), left_out=left_out)


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
    if options.dataset in ("digits", "cifar10", "cifar100"):
        data = load_data(config)
        return data.val if name == "val" else data.test
    if options.dataset == "folder":
        folder = _root(options) / name
        if name == "val" and not folder.is_dir():
            return None
        found = _find(folder, classes)
    else:
        path = _list_paths(options)[name]
        if path is None:
            return None
        found = _listed(_root(options), path, classes)
    return _survey(found, options, ranges).load_all(Decoder(options.colour, ranges), options)


def load_labelled(path: Path, config: Config, classes: list[str], ranges: Ranges) -> Split:
    """Load images with labels from any place.

    Args:
        path: a folder of ``<class>/<image>``, or a list file of lines ``path label``, whose paths
            are below ``root`` if that is set, else below the list's folder; labels are numbers or
            names of classes.
        classes, ranges: of the training images, from the manifest of a run.

    Raises:
        UserError: as ``load_data``.
    """
    options = config.of(DataOptions)
    if path.is_dir():
        found = _find(path, classes)
    else:
        found = _listed(Path(options.root) if options.root else path.parent, path, classes)
    return _survey(found, options, ranges).load_all(Decoder(options.colour, ranges), options)


def load_picture(path: Path, decoder: Decoder, options: DataOptions) -> Tensor:
    """One image as evaluation sees it: uint8 [3, S, S].

    Raises:
        UserError: a file that is no picture, or one that the decoder refuses.
    """
    image = squared(decoder.read(path), options.image_size, options.resize, options.colour)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _split(images: Tensor | Files, labels: np.ndarray) -> Split:
    return Split(images, labels.astype(np.int64), np.arange(len(labels), dtype=np.int64))


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


# ---- in memory from the start ----


def _digits(options: DataOptions) -> Data:
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
        splits.append(_split(_resized(data.data, options), np.asarray(data.targets)))
    return Data(splits[0], None, splits[1], list(data.classes))


def _resized(pixels: np.ndarray, options: DataOptions) -> Tensor:
    """Pixels [n, H, W, 3] as uint8 [n, 3, S, S], by the rule that files are resized by."""
    size = options.image_size
    if pixels.shape[1:3] != (size, size) or options.resize == "short-side-crop":
        images = (Image.fromarray(each) for each in pixels)
        square = (squared(each, size, options.resize, options.colour) for each in images)
        pixels = np.stack([np.asarray(each) for each in square])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


# ---- from files ----


@dataclass(frozen=True)
class _Surveyed:
    """The images of a split that can be read, before their pixels are."""

    paths: list[Path]
    labels: Int64Array
    facts: list[Facts]
    unreadable: dict[str, str]
    """Paths of the others, and why."""

    def load(self, chosen: Int64Array, decoder: Decoder, options: DataOptions) -> Split:
        """The samples at ``chosen``, in memory if they are small."""
        hashes = [facts.sha256 for facts in self.facts]
        files = Files(self.paths, hashes, decoder).take(chosen)
        images: Tensor | Files = files
        if options.image_size <= IN_MEMORY_PIXELS:
            with ThreadPoolExecutor() as pool:
                read = pool.map(lambda path: load_picture(path, decoder, options), files.paths)
                images = torch.stack(list(read))
        return Split(images, self.labels[chosen], chosen)

    def load_all(self, decoder: Decoder, options: DataOptions) -> Split:
        """All samples."""
        return self.load(np.arange(len(self.paths), dtype=np.int64), decoder, options)


def _of_files(options: DataOptions) -> Data:
    """A folder or lists: what is there, what can be read, which of it is kept; then the pixels."""
    classes, found = _folder(options) if options.dataset == "folder" else _lists(options)
    train = _survey(found["train"], options)
    chosen = _long_tailed(train.labels, classes, options)
    decoder = Decoder(options.colour, ranges_of([train.facts[i] for i in chosen]))
    others = {n: _survey(f, options, decoder.ranges) for n, f in found.items() if n != "train"}
    surveyed = {"train": train, **others}
    return Data(
        train.load(chosen, decoder, options),
        others["val"].load_all(decoder, options) if "val" in others else None,
        others["test"].load_all(decoder, options),
        classes,
        left_out=len(train.paths) - len(chosen),
        ranges=decoder.ranges,
        unreadable={name: s.unreadable for name, s in surveyed.items() if s.unreadable},
        notes=[*_notes(found, surveyed), *_shrunk(train.facts, options)],
    )


def _survey(found: Found, options: DataOptions, ranges: Ranges | None = None) -> _Surveyed:
    """What can be read of the files that were found.

    Args:
        ranges: of the training images of more than 8 bits; None for the training images.

    Raises:
        UserError: one that cannot be read, unless such are to be skipped.
    """
    facts = survey(found.images)
    problems: dict[int, str] = {}
    for i, (path, each) in enumerate(zip(found.images, facts, strict=True)):
        problem = each.problem
        if not problem and ranges is not None and each.kind:
            problem = Decoder(ranges=ranges).refusal(path, each.kind)
        if problem:
            problems[i] = problem
    if problems and options.bad_images == "error":
        raise UserError(
            f"{next(iter(problems.values()))} ({len(problems)} of {len(facts)} images cannot be "
            "read; --bad-images skip leaves them out)"
        )
    kept = [i for i in range(len(facts)) if i not in problems]
    if not kept:
        raise UserError(f"no image can be read: {next(iter(problems.values()))}")
    return _Surveyed(
        [found.images[i] for i in kept],
        np.asarray(found.labels, np.int64)[kept],
        [facts[i] for i in kept],
        {str(found.images[i]): problem for i, problem in problems.items()},
    )


def _notes(found: dict[str, Found], surveyed: dict[str, _Surveyed]) -> list[str]:
    """What was passed over of each split, and of how many images only a part is used."""
    notes = []
    for name, each in surveyed.items():
        if found[name].skipped:
            notes.append(f"{name}: passed over {found[name].summary()}")
        if each.unreadable:
            first = next(iter(each.unreadable.values()))
            notes.append(f"{name}: skipped {len(each.unreadable)} unreadable, first: {first}")
        if frames := sum(facts.frames > 1 for facts in each.facts):
            notes.append(f"{name}: {frames} images have several frames; the first is used")
    return notes


def _shrunk(facts: list[Facts], options: DataOptions) -> list[str]:
    """What becomes of images of this size, and a warning where little is left of them."""
    width, height = (int(np.median([getattr(f, n) for f in facts])) for n in ("width", "height"))
    size = options.image_size
    if (width, height) == (size, size):
        return []
    said = f"images of {width} x {height} pixels (median) are {describe(size, options.resize)}"
    if size < SMALL and min(width, height) >= MUCH_LARGER * size:
        said += (
            "; so little may not tell the classes apart: raise --image-size, or take a preset for "
            "photographs such as imagenet-lt"
        )
    return [said]


def _root(options: DataOptions) -> Path:
    if not options.root:
        wanted = (
            "with train/<class>/* and test/<class>/*"
            if options.dataset == "folder"
            else "which its lists refer to"
        )
        raise UserError(f"dataset {options.dataset} needs --root FOLDER {wanted}")
    return Path(options.root)


def _folder(options: DataOptions) -> tuple[list[str], dict[str, Found]]:
    """``train/<class>/*`` and ``test/<class>/*`` (and ``val/``)."""
    root = _root(options)
    for name in ("train", "test"):
        if not (root / name).is_dir():
            raise UserError(f"{root / name} is missing; expected {name}/<class>/<image> in {root}")
    classes = class_folders(root / "train", Found())
    if len(classes) < 2:
        raise UserError(f"{root / 'train'} has {len(classes)} class folders; expected at least 2")
    found = {name: _find(root / name, classes) for name in SPLITS if (root / name).is_dir()}
    for k, count in enumerate(np.bincount(found["train"].labels, minlength=len(classes))):
        if count == 0:
            folder = root / "train" / classes[k]
            raise UserError(f"class folder {folder} has no image; add some or remove it")
    return classes, found


def _find(folder: Path, classes: list[str]) -> Found:
    """The images of a folder of class folders, all of them of known classes."""
    found = Found()
    for name in class_folders(folder, found):
        if name not in classes:
            raise UserError(f"{folder / name} is a class that the training images do not have")
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
    labels = np.asarray(train.labels)
    number = int(labels.max()) + 1
    if number > len(labels):
        raise UserError(
            f"{paths['train'].name}: label {number - 1} is out of range; its {len(labels)} images "
            f"cannot be of {number} classes, labels count from 0 without gaps"
        )
    absent = np.setdiff1d(np.arange(number), labels)
    if absent.tolist() == [0]:
        raise UserError(
            f"{paths['train'].name}: labels start at 1; expected 0: subtract 1 from all"
        )
    if len(absent):
        raise UserError(
            f"{paths['train'].name}: class '{absent[0]}' has no training image; labels count from "
            f"0 without gaps, and the largest here is {number - 1}"
        )
    classes = [str(k) for k in range(number)]
    others = {n: _listed(root, p, classes) for n, p in paths.items() if n != "train" and p}
    return classes, {"train": train, **others}


def _listed(root: Path, path: Path, classes: list[str] | None = None) -> Found:
    """The images of a list.

    Args:
        root: folder that the paths in it are below.
        classes: names that labels may be, and the number that they are below.
    """
    found = Found()
    numbers = {name: k for k, name in enumerate(classes or [])}
    for line, image, label in read_list(path):
        if label in numbers:
            found.labels.append(numbers[label])
        elif label.isdecimal() and len(label) <= 18:
            found.labels.append(int(label))
        else:
            header = " (remove the heading)" if line == 1 else ""
            raise UserError(
                f"{path.name} line {line}: label {label!r}: expected an integer >= 0{header}"
            )
        found.images.append(root / image)
    if not found.images:
        raise UserError(f"list {path} is empty; expected `path label` lines")
    if classes is not None and max(found.labels) >= len(classes):
        raise UserError(
            f"{path.name}: label {max(found.labels)} is out of range; the training list has the "
            f"classes 0 to {len(classes) - 1}"
        )
    missing = next((p for p in found.images if not p.exists()), None)
    if missing is not None:
        encoding = "" if str(missing).isprintable() else " (the list is not UTF-8)"
        raise UserError(
            f"image {missing} of {path.name} is missing{encoding}; check --root or the list"
        )
    return found
