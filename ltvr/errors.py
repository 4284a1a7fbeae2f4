"""Errors that are the user's to mend, and how a command shows them."""

from __future__ import annotations

import contextlib
import difflib
import errno
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ltvr import distributed

__all__ = [
    "CannotWrite",
    "Diverged",
    "Missing",
    "OtherImages",
    "Stopped",
    "UserError",
    "brief",
    "by_reason",
    "did_you_mean",
    "expected",
    "run",
    "shown",
]

ADVICE = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space, your quota on that disk is used up",
    errno.EACCES: "ask for the right to it, or name another place",
    errno.EPERM: "ask for the right to it, or name another place",
    errno.EROFS: "name a place on another disk",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "raise the limit with `ulimit -n`",
    errno.EIO: "that disk or its connection fails, name a place on another",
}
"""What to do about an error of the operating system."""

OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "Storage size calculation overflowed",
    "integer multiplication overflow",
)
"""What PyTorch's errors say when there is no memory for a tensor, or could never be."""


class UserError(ValueError):
    """What is wrong, what was expected and what to do, in one line."""


class Diverged(UserError):
    """A loss, or logits, that are not finite: to go on with the same settings would not help."""

    def __init__(self, line: str) -> None:
        super().__init__(f"diverged: {line}")


class Missing(UserError):
    """Images, or a list of them, that are not where they were said to be."""


class OtherImages(UserError):
    """Images that are not those that a run began with."""


class CannotWrite(UserError):
    """A file that cannot be written: nothing more of the run can be kept."""


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and did so in order.

    Args:
        line: why, and how to go on.
        status: exit status of the command.
    """

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


def shown(text: object) -> str:
    """``text`` for a person, on one line: what a terminal would obey or cannot show is escaped.

    Names of files and classes can hold line breaks, escape sequences, marks that turn the direction
    of writing, and bytes that are not UTF-8: ``\\n``, ``\\x1b``, ``\\u202e``, ``\\udcff``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def brief(value: object) -> str:
    """``value`` as Python writes it, for an error; the middle of a long one is left out."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes out
        text = f"a {type(value).__name__} of too many digits"
    return shown(text if len(text) <= 200 else f"{text[:120]}...{text[-40:]}")


def by_reason(missing: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names of what is missing, each once, by why it is: a reason that they share is said once.

    Args:
        missing: names and reasons.
    """
    found: dict[str, dict[str, None]] = {}
    for name, why in missing:
        found.setdefault(why, {})[name] = None
    return {why: list(names) for why, names in found.items()}


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """``did you mean X?`` of the nearest of ``names``, or of two; empty where none is near."""
    said = str(name).casefold()

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, other.casefold(), said).ratio()

    near = [other for other in names if likeness(other) >= 0.6]
    near = sorted(near, key=likeness, reverse=True)[:2]
    nearest = [other for other in near if likeness(other) == likeness(near[0])]
    return f"did you mean {' or '.join(nearest)}?" if nearest else ""


def expected(name: object, names: Iterable[str], also: str = "") -> str:
    """``expected one of ...``, and ``also``, with the nearest of ``names``."""
    names = list(names)
    hint = did_you_mean(name, names)
    return f"expected one of {', '.join(names)}{also}" + (f"; {hint}" if hint else "")


def run(main: Callable[[], int | None], *, ranks: bool = False) -> NoReturn:
    """Run a command and exit, with its status or as its error asks.

    Args:
        ranks: whether several processes, which ``torchrun`` has started, may run it together. Each
            says which it is in front of its error.

    A ``UserError``, an error of the operating system and a lack of memory become one line on stderr
    and status 2, Ctrl-C 130, a reader of stdout that has gone (``| head``) nothing and 141, as of
    SIGPIPE. What is left is a fault of ltvr: its traceback, a line that asks to report it, and 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale may lack the letters of a name
            stream.reconfigure(errors="backslashreplace")
    status: Any
    try:
        try:
            if distributed.launched() > 1 and not ranks:
                raise UserError("this command is for one process; start it without torchrun")
            status = main() or 0
        except SystemExit as stop:  # --help
            status = stop.code
        if sys.stdout is not None:
            sys.stdout.flush()  # here, since nothing catches Python's own flush at the exit
    except BrokenPipeError:
        _end(141)
    except Stopped as stopped:
        # torchrun would take another status for a failure, and start the ranks again.
        status = stopped.status if distributed.job() is None else 0
        _end(status, "" if distributed.launched_rank() else shown(stopped))
    except KeyboardInterrupt:
        _end(130, "stopped")
    except Exception as error:
        line = _line(error)
        if line is None:
            traceback.print_exc()
            _end(1, "this is a fault of ltvr: please report it with the lines above")
        line = shown(line)
        _end(2, f"error: {line if len(line) <= 1000 else f'{line[:700]} ... {line[-200:]}'}")
    sys.exit(status)


def _line(error: Exception) -> str | None:
    """What to tell the user of an error that is not a fault of ltvr; None of one that is."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        name = error.filename
        name = os.fsdecode(name) if isinstance(name, bytes) else name
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # without a name, it is where we print
        where = f"{name}: " if name is not None else "standard output: " if full else ""
        reason = error.strerror or str(error) or type(error).__name__
        return f"{where}{reason}; {ADVICE.get(error.errno or 0, 'check it, and try again')}"
    text = str(error)
    if distributed.lost(error):
        first = text.splitlines()[0]
        return f"another rank has ended, or cannot be reached; its own line says why ({first})"
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        first = f" ({text.splitlines()[0]})" if text else ""
        return (
            f"out of memory{first}; lower --image-size, --batch-size (or raise --accumulate), "
            "--eval-batch-size or --workers"
        )
    return None


def _tell_torchrun(line: str) -> None:
    """Leave the last line where ``torchrun`` looks for it, for its own summary."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        told = {"message": line, "extraInfo": {"py_callstack": line, "timestamp": int(time.time())}}
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
            json.dump({"message": told}, file)


def _end(status: int, line: str = "") -> NoReturn:
    """Exit with a last line on stderr, whether or not anybody reads stdout and stderr."""
    rank = distributed.launched_rank()
    if line and rank is not None:
        _tell_torchrun(line)
        line = f"[rank {rank}] {line}"
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{line}\n" if line else "")):
        try:
            if stream is not None:
                stream.write(text)
                stream.flush()
        except OSError:  # Python flushes again at the exit: into nothing
            with contextlib.suppress(OSError, io.UnsupportedOperation):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)
