"""What a command is to write: refused before the work is done, or written whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeGuard

from ltvr.errors import UserError
from ltvr.runs.files import beside, cannot_write, remove, replacing

__all__ = ["make_folder", "output", "refuse_place", "refuse_same"]


def refuse_place(folder: Path) -> None:
    """Refuse a folder that cannot be made, before the work whose result it is to hold.

    Raises:
        UserError: something on its path is no folder, or may not be written to.
    """
    absolute = folder.absolute()
    nearest = next(p for p in (absolute, *absolute.parents) if os.path.lexists(p))
    if not nearest.is_dir():
        raise UserError(f"{nearest} is in the way; name another --out or --name")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"cannot write to {nearest}; name another --out or --name")


def make_folder(folder: Path) -> None:
    """Make a folder for what will be found, and try it before the work.

    Raises:
        CannotWrite: a disk that is full, read-only or broken, or a name that is taken.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from None


def refuse_same(named: Mapping[str, Path | None]) -> None:
    """Refuse one file for two options, of which one would take the other's place.

    Args:
        named: what each option named; None where it was not given.

    Raises:
        UserError: names both options.
    """
    options: dict[Path, str] = {}
    for option, path in named.items():
        if path is not None and (other := options.setdefault(path.resolve(), option)) != option:
            raise UserError(f"{option} {path} is the file of {other} as well; name another")


@contextmanager
def output(path: Path, option: str, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` when the block ends, if that ends well.

    It is opened beside ``path`` at once: what cannot be written is an error before the block. Text
    is UTF-8; what is not UTF-8 in a name is written as ``\\\\udcff``.

    Args:
        option: that named the file, for the error.

    Raises:
        UserError: a folder that is missing or not writable, something there that is no file, or a
            full disk.
    """
    if not os.path.isdir(path.parent):
        raise UserError(f"{option} {path}: there is no folder {path.parent}")
    if os.path.lexists(path) and not os.path.isfile(path):
        what = "a folder; name a file in it" if os.path.isdir(path) else "no regular file"
        raise UserError(f"{option} {path} is {what}")
    partial = beside(path)
    try:
        with _opened(partial, binary) as file:
            yield file
    except BaseException as error:
        remove(partial)
        if _is_own(error, partial):
            raise cannot_write(path, error) from None
        raise
    try:
        with replacing(path) as whole:
            os.replace(partial, whole)
    finally:
        remove(partial)


def _is_own(error: BaseException, file: Path) -> TypeGuard[OSError]:
    """Whether it is of writing ``file``, and not of reading another, nor of stdout's reader."""
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return False
    return error.filename in (None, str(file))


def _opened(path: Path, binary: bool) -> IO[Any]:
    if binary:
        return path.open("wb")
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
