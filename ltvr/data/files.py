"""Which files are images of a data set, and what was passed over: folders and list files."""

from __future__ import annotations

import codecs
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ltvr.data.images import endings, is_image
from ltvr.data.survey import Facts
from ltvr.errors import Missing, UserError

__all__ = [
    "Found",
    "Stored",
    "class_folders",
    "find_images",
    "is_number",
    "match_images",
    "numbers_of",
    "read_lines",
    "read_list",
    "split_line",
]

SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")
"""What other systems put beside the user's files; hidden files and folders begin with a dot."""


class Stored(NamedTuple):
    """Images in shards (``ltvr.data.shards``)."""

    folder: str
    """Folder or address of the shards."""
    facts: list[Facts]
    """On each image."""


@dataclass
class Found:
    """Files of images, and what was passed over."""

    images: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """The class of each image; empty where nothing says it."""
    skipped: dict[Path, str] = field(default_factory=dict)
    """Files and folders that were passed over, and why."""
    stored: Stored | None = None
    """What is known of them where they are in shards; ``images`` are names then."""

    def summary(self) -> str:
        """What was passed over, in words: how many for which reason, and the first of each."""
        reasons = Counter(self.skipped.values())
        first = {reason: path for path, reason in reversed(self.skipped.items())}
        return "; ".join(
            f"{number} {reason} ({'' if number == 1 else 'first: '}{first[reason]})"
            for reason, number in reasons.most_common()
        )


def class_folders(folder: Path, found: Found) -> list[str]:
    """Names of the class folders in ``folder``, sorted; all else there is noted in ``found``."""
    names = []
    for entry in _entries(folder):
        if _hidden(entry):
            found.skipped[entry] = "hidden"
        elif _is_folder(entry):
            names.append(entry.name)
        else:
            found.skipped[entry] = "not in a class folder"
    return names


def find_images(folder: Path, found: Found, label: int | None = None) -> int:
    """Add the images in ``folder`` and in the folders in it to ``found``; return their number.

    A file is an image if its ending says so, or without an ending if its content does; hidden
    files never are.
    """
    before = len(found.images)
    above = {_identity(each) for each in (folder.resolve(), *folder.resolve().parents)}
    for path in _walk(folder, found, above):
        _take(path, found)
    number = len(found.images) - before
    if label is not None:
        found.labels += [label] * number
    return number


def match_images(pattern: str, found: Found) -> None:
    """Add the images that a pattern such as ``photos/*.jpg`` matches, and those in folders.

    ``**`` stands for any number of folders; what is hidden is not matched by ``*``.
    """
    for name in sorted(glob.glob(pattern, recursive=True)):
        path = Path(name)
        if not path.is_dir():
            _take(path, found)
        elif "**" not in pattern:  # which matches what is in the folder by itself
            find_images(path, found)


def _take(path: Path, found: Found) -> None:
    ending = path.suffix.lower()
    if ending in endings() or (not ending and is_image(path)):
        found.images.append(path)
    else:
        found.skipped[path] = f"of type {ending}" if ending else "without an ending, no image"


def _walk(folder: Path, found: Found, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Files in ``folder`` and below, in the order of their names; links are followed once."""
    for entry in _entries(folder):
        if _hidden(entry):
            found.skipped[entry] = "hidden"
        elif _is_folder(entry):
            identity = _identity(entry)
            if identity in above:
                found.skipped[entry] = "a link to a folder above it"
            else:
                yield from _walk(entry, found, above | {identity})
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        raise Missing(f"folder {folder} is missing; check its path") from None
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read ({error.strerror})") from None


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except OSError:  # a link to nothing, or to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in SYSTEM_FOLDERS


# ---- list files ----

LINE = re.compile(r"(?P<image>.*[^\s,])(?:\s*,\s*|\s+)(?P<label>\"[^\"]+\"|[^\s,]*[^\s,\"])")
TABBED = re.compile(r"(?P<image>[^\t]*[^\s]) *\t *(?P<label>[^\s][^\t]*)")
"""With a tab, and no other, both may have spaces."""


def read_list(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, image and label of every line ``path label`` of a list file.

    The two are separated by spaces, a tab or a comma; a label with spaces comes after a tab, or in
    quotes. A byte order mark is passed over; names that are not UTF-8 are taken as the file system
    has them.

    Raises:
        UserError: a file that is missing or no text, or another line.
    """
    for number, line in read_lines(path):
        image, label = split_line(line)
        if not label:
            raise UserError(f"{path.name} line {number}: {line!r}: expected `path label`")
        yield number, image, label


def split_line(line: str) -> tuple[str, str]:
    """Image and label of a line ``path label``; the label is empty where there is but one word."""
    parts = TABBED.fullmatch(line) or LINE.fullmatch(line)
    if parts is None:
        return line.strip('"'), ""
    return parts["image"].strip('"'), parts["label"].strip('"')


def numbers_of(labels: list[str], classes: list[str]) -> list[int | None]:
    """Numbers of the classes that the labels of a list mean; None for one that is none.

    A label is the name of a class or its number. Where names are numbers as well, either all labels
    are names, or none is taken for one: of classes called 1, 2, 3 a list of 0, 1, 2 has numbers.
    """
    names = {name: k for k, name in enumerate(classes)}
    if any(map(is_number, classes)) and not all(label in names for label in labels):
        names = {}
    return [names.get(label, int(label) if is_number(label) else None) for label in labels]


def is_number(label: str) -> bool:
    """Whether a label is the number of a class, of however many there are."""
    return label.isdecimal() and len(label) <= 18


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line of a list file that is not empty, without space around it.

    Raises:
        UserError: a file that is missing or no text.
    """
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _text(path: Path) -> str:
    if not path.is_file():
        raise Missing(f"list {path} is missing; put it there or name its folder with --lists")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"list {path} cannot be read ({error.strerror})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise UserError(f"list {path} is not text; expected lines `path label` in UTF-8")
    return text
