"""A data set of files looked at before a run: all that is wrong with it, and not the first alone.

Where nothing is found that a run would stop at, the loader of ``ltvr.data.datasets`` has the last
word. What a run goes on with, and a person should know, is in the properties of ``Audit``.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ltvr.config.config import Config
from ltvr.data.datasets import load_data
from ltvr.data.files import (
    Found,
    class_folders,
    find_images,
    is_number,
    read_lines,
    split_line,
)
from ltvr.data.holdout import described
from ltvr.data.images import Decoder
from ltvr.data.layouts import (
    LISTS,
    SPLITS,
    check_filled,
    check_known,
    check_labels,
    check_number,
    splits_of,
)
from ltvr.data.options import DataOptions
from ltvr.data.splits import Ranges
from ltvr.data.survey import Facts, ranges_of, survey
from ltvr.errors import UserError

__all__ = ["Audit", "Image", "Part", "audit"]


@dataclass(frozen=True)
class Image:
    """One file."""

    split: str
    path: Path
    label: str
    """The name of its class."""
    facts: Facts
    problem: str
    """Why it cannot be read; empty if it can."""


@dataclass(frozen=True)
class Part:
    """One split."""

    images: list[Image]
    found: Found
    """The same files, and what was passed over."""

    @cached_property
    def readable(self) -> list[Image]:
        """The images that can be read."""
        return [image for image in self.images if not image.problem]

    @cached_property
    def counts(self) -> Counter[str]:
        """Readable images of each class that has any."""
        return Counter(image.label for image in self.readable)


@dataclass(frozen=True)
class Audit:
    """What was found."""

    classes: list[str]
    """Names of the classes of the training images."""
    parts: dict[str, Part]
    """By name of the split; the first is that of training, or the only one, ``all``."""
    ranges: Ranges
    """Of the training images of more than 8 bits; see ``ltvr.data.images.Decoder``."""
    problems: list[str]
    """What a run would stop at."""
    judged: str = ""
    """What a run with a hold-out is judged on, a line; empty without one, or with problems."""

    @cached_property
    def copies(self) -> list[list[Image]]:
        """Images of one content each, of every content that is there more than once."""
        groups: dict[str, list[Image]] = defaultdict(list)
        for part in self.parts.values():
            for image in part.readable:
                groups[image.facts.sha256].append(image)
        return [group for group in groups.values() if len(group) > 1]

    @property
    def contradictions(self) -> list[list[Image]]:
        """The copies that are of several classes."""
        return [group for group in self.copies if len({image.label for image in group}) > 1]

    @property
    def leaks(self) -> dict[tuple[str, str], list[Image]]:
        """By two splits, in their order: images of the second whose content is in the first."""
        found: dict[tuple[str, str], list[Image]] = defaultdict(list)
        for group in self.copies:
            splits = [name for name in self.parts if any(i.split == name for i in group)]
            for image in group:
                for earlier in splits[: splits.index(image.split)]:
                    found[earlier, image.split].append(image)
        return dict(found)

    @property
    def untested(self) -> list[str]:
        """Classes without an image in the test split, if there is one."""
        test = self.parts.get("test")
        return [] if test is None else [name for name in self.classes if not test.counts[name]]


def audit(config: Config) -> Audit:
    """Look at a folder or at lists; every image is read once, in parallel.

    Raises:
        UserError: there is no such folder.
    """
    options = config.of(DataOptions)
    root = Path(options.root)
    if not options.root or not root.is_dir():
        raise UserError(f"{options.root!r} is no folder; name the folder of the images")
    seen = _Splits()
    if options.dataset == "folder":
        _folders(root, splits_of(options), seen)
    else:
        _lists(root, options, seen)
    facts = {name: survey(found.images) for name, found in seen.found.items()}
    training = next(iter(facts))
    ranges = ranges_of(facts[training])
    parts = {}
    for name, found in seen.found.items():
        decoder = Decoder(ranges=ranges)
        images = []
        for path, label, each in zip(found.images, found.labels, facts[name], strict=True):
            problem = each.problem
            if not problem and each.kind and name != training:
                problem = decoder.refusal(path, each.kind)
            images.append(Image(name, path, seen.names[label], each, problem))
        parts[name] = Part(images, found)
    _check_images(parts, options.bad_images == "skip", seen.problems)
    judged = ""
    with seen.noting():
        if not seen.problems:
            data = load_data(config)
            if options.holdout:
                of_class = np.bincount(data.test.labels, minlength=len(data.classes))
                judged = described(options, of_class.tolist())
    return Audit(seen.classes, parts, ranges, seen.problems, judged)


def _check_images(parts: dict[str, Part], skip: bool, problems: list[str]) -> None:
    """Note splits without images, and with such as cannot be read."""
    for name, part in parts.items():
        bad = len(part.images) - len(part.readable)
        if not part.images:
            problems.append(f"{name}: there are no images")
        elif not part.readable:
            problems.append(f"{name}: no image can be read")
        elif bad and not skip:
            problems.append(
                f"{name}: {bad} of {len(part.images)} images cannot be read; "
                "--bad-images skip leaves them out"
            )


# ---- which files ----


@dataclass
class _Splits:
    """Files of every split, and what is wrong with how they lie."""

    classes: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    """The name of every label that occurs, of the classes or not."""
    found: dict[str, Found] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error as a problem, and go on."""
        try:
            yield
        except UserError as error:
            self.problems.append(str(error))


def _folders(root: Path, splits: Sequence[str], seen: _Splits) -> None:
    """Those of the ``splits`` that a folder has; one of class folders alone is one, ``all``."""
    folders = {name: root / name for name in splits if (root / name).is_dir()}
    above = Path(os.path.abspath(root)).parent
    inside = not folders and all((above / name).is_dir() for name in ("train", "test"))
    if inside:
        seen.problems.append(f"{root} is one split, and {above} has train and test; name {above}")
    for name in ("train", "test"):
        if name in splits and name not in folders and not inside:
            otherwise = ", or, without a test set, --holdout" if name == "test" else ""
            seen.problems.append(
                f"{root / name} is missing; a run needs {name}/<class>/<image>{otherwise}"
            )
    numbers: dict[str, int] = {}
    for name, folder in (folders or {"all": root}).items():
        found = seen.found[name] = Found()
        own: list[str] = []
        with seen.noting():
            own = class_folders(folder, found)
        first = len(seen.found) == 1
        if first:
            seen.classes = own
            with seen.noting():
                check_number(folder, own)
        for label in own:
            with seen.noting():
                check_known(folder / label, seen.classes)
            number = numbers.setdefault(label, len(numbers))
            with seen.noting():
                images = find_images(folder / label, found, number)
                if first:
                    check_filled(folder / label, images)
    seen.names = {number: name for name, number in numbers.items()}


def _lists(root: Path, options: DataOptions, seen: _Splits) -> None:
    """The splits of list files."""
    lists = Path(options.lists or root)
    for split, file in zip(SPLITS, LISTS[options.dataset], strict=True):
        if file is None or split not in splits_of(options):
            continue
        found = seen.found[split] = Found()
        with seen.noting():
            _listed(root, lists / file, found, seen.problems)
        labels = sorted(set(found.labels))
        seen.names |= {label: str(label) for label in labels}
        if split == "train":
            seen.classes = [str(label) for label in labels]
        training = seen.found["train"].labels
        if labels and training:
            with seen.noting():
                check_labels(file, found.labels, None if split == "train" else max(training) + 1)


def _listed(root: Path, path: Path, found: Found, problems: list[str]) -> None:
    """Add the images of a list to ``found``."""
    wrong = []
    for line, text in read_lines(path):
        image, label = split_line(text)
        if is_number(label):
            found.images.append(root / image)
            found.labels.append(int(label))
        else:
            wrong.append(f"line {line}: {text!r}")
    if wrong:
        problems.append(
            f"{path.name}: {len(wrong)} lines are not `path label` with an integer >= 0, "
            f"first {wrong[0]}"
        )
