"""The lock of a run folder: one process trains there, and the lock dies with it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import IO, Any

from ltvr import distributed
from ltvr.errors import UserError
from ltvr.runs.files import cannot_write

__all__ = ["NO_LOCKS", "Lock", "begun_by", "holder"]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks answer."""


class Lock:
    """``flock`` on the file ``lock`` of a run folder, until ``release`` or the process's end.

    The operating system drops it when the process ends, in whatever way. The file stays, and says
    who holds the lock or held it last, and who began the run. It does not reach over network file
    systems that keep locks to one machine; where there are none at all, a line on stderr says so.

    Args:
        folder: of the run.
        command: for whoever is refused.
        begins: whether it begins the run, or goes on with that of another.

    Raises:
        UserError: another process holds it, and which; or it cannot be locked.
        CannotWrite: a folder that cannot be written to.
    """

    def __init__(self, folder: Path, command: str, *, begins: bool = True) -> None:
        path = folder / "lock"
        try:
            self._file: IO[str] = path.open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise cannot_write(path, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with self._file:
                raise UserError(f"{folder} is in use by {_holder(self._file)}") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                self.release()
                raise UserError(
                    f"cannot lock {path} ({error.strerror}); look at its disk, or name another "
                    "folder"
                ) from None
            print(
                f"note: the file system of {folder} has no locks ({error.strerror}); see to it "
                "that no other process trains there",
                file=sys.stderr,
            )
        # A forked worker would hold on to the lock for as long as it outlives this process.
        util.register_after_fork(self, Lock.release)
        job = distributed.job()
        first = (job, command) if begins else begun_by(folder)
        own = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": command,
            "job": job,
            "begun": dict(zip(("job", "command"), first, strict=True)),
        }
        try:
            self._file.truncate(0)
            self._file.write(json.dumps(own) + "\n")
            self._file.flush()
        except OSError as error:
            self.release()
            raise cannot_write(path, error) from None

    def release(self) -> None:
        """Let go of the lock."""
        with suppress(OSError):  # who held it could not be written down; it is gone all the same
            self._file.close()


def holder(folder: Path) -> dict[str, Any]:
    """Who holds the lock of a run folder, or held it last: ``pid``, ``host``, ``command``, ``job``.

    Empty where nobody has, or where it cannot be read.
    """
    with suppress(OSError, ValueError):
        found = json.loads((folder / "lock").read_text(encoding="utf-8", errors="replace"))
        if isinstance(found, dict):
            return found
    return {}


def begun_by(folder: Path) -> tuple[str | None, str | None]:
    """The job and the command that began the run of a folder; None where that is not known."""
    found = holder(folder)
    first = found.get("begun", found)  # of an older lock the last holder alone is known
    return (first.get("job"), first.get("command")) if isinstance(first, dict) else (None, None)


def _holder(file: IO[str]) -> str:
    """Who wrote ``file``, in words."""
    file.seek(0)
    try:
        found = json.loads(file.read())
        return "process {pid} on {host} since {since} ({command})".format(**found)
    except (ValueError, KeyError, TypeError):  # it is just being written
        return "another process"
