"""Files that survive a kill, a full disk and a power cut: whole, old or new, never in between."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ltvr.errors import CannotWrite

__all__ = [
    "PARTIAL",
    "append",
    "begun_file",
    "beside",
    "cannot_write",
    "remove",
    "replacing",
    "sync_folder",
    "write",
]

PARTIAL = ".partial"
"""Ends the name of a file that is being written; one that a kill left behind means nothing."""
OF_ITS_OWN = re.compile(rf"(\.[0-9a-f]{{8}})?{re.escape(PARTIAL)}$")
"""The end of such a name, with what two processes that write one file at once differ in."""


@contextmanager
def replacing(path: Path, former: Path | None = None) -> Iterator[Path]:
    """A path to write to, whose file takes the place of ``path`` once the block has ended.

    The new content is on the disk before it gets the name, and the name before this returns; after
    a failure ``path`` is as it was.

    Args:
        former: the name that the file of before is to have, if it is to be kept. A crash between
            the two renamings leaves it, and no ``path``.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    partial = beside(path)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if former is not None and path.exists():
            os.replace(path, former)
        os.replace(partial, path)
        sync_folder(path.parent)
    except BaseException as error:
        remove(partial)  # it may hold the room that is missing
        if isinstance(error, OSError):
            raise cannot_write(path, error) from None
        raise


def beside(path: Path) -> Path:
    """A name to write ``path`` under before it is whole, which no other process takes."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")


def begun_file(name: str) -> str:
    """The name that a partial file was to get; "" of another file."""
    found = OF_ITS_OWN.search(name)
    return name[: found.start()] if found else ""


def write(path: Path, text: str) -> None:
    """Write a text file, whole and durable, in UTF-8; another byte of a name is ``\\udcff``.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def append(path: Path, text: str) -> None:
    """Add ``text`` to the end of a file, durable; a failure leaves nothing of it.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    try:
        new = not path.exists()
        with path.open("ab", buffering=0) as file:
            size, data = file.tell(), text.encode(errors="backslashreplace")
            try:
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where its file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The error of a write that failed: which file, why, and what to do about it."""
    reason = error.strerror or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason, remedy = f"{reason}, {_free(path)} free", "make room on its disk"
    elif error.errno in (errno.EDQUOT, errno.EFBIG):
        remedy = "make room in your quota, or raise the limit"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "make its folder writable"
    elif error.errno == errno.EIO:
        remedy = "look at its disk"
    else:
        remedy = "name another folder"
    return CannotWrite(f"cannot write {path} ({reason}); {remedy}")


def _free(path: Path) -> str:
    """What is left on the disk of ``path``."""
    try:
        return f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB"
    except OSError:
        return "nothing"


def remove(path: Path) -> None:
    """Remove a file, if it is there and can be."""
    with suppress(OSError):  # a disk that cannot be written to may keep it
        path.unlink(missing_ok=True)
