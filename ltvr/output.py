"""Files that a command was asked for: whole or not at all, and refused before the work is done."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ltvr.errors import UserError

__all__ = ["output"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def output(path: Path, option: str, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` when the block ends, if that ends well.

    It is opened beside ``path`` at once: what cannot be written is an error before the block. Text
    is UTF-8; what is not UTF-8 in a name is written as ``\\\\udcff``.

    Args:
        option: that named the file, for the error.

    Raises:
        UserError: a folder that is missing or not writable, or something there that is no file.
    """
    text = {} if binary else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    folder = path.parent
    if not os.path.isdir(folder):
        raise UserError(f"{option} {path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        what = "a folder; name a file in it" if path.is_dir() else "no regular file"
        raise UserError(f"{option} {path} is {what}")
    try:
        descriptor, name = tempfile.mkstemp(".partial", "." + path.name[:100], folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{option} {path} cannot be written ({reason}); name another") from None
    partial = Path(name)
    try:
        with open(descriptor, "wb" if binary else "w", **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # as any file of the user; mkstemp's are private
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno in FULL:
            raise UserError(
                f"{option} {path} cannot be written ({error.strerror}); make room, or name another"
            ) from None
        raise
