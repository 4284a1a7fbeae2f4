"""What is said of a run that has stopped: how to go on with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ltvr import distributed
from ltvr.errors import Stopped
from ltvr.runs.folder import Run

__all__ = ["go_on", "saying_how_to_go_on", "stopped"]


def stopped(why: str, run: Run, said: Sequence[str] = ()) -> str:
    """What is said of a run that has stopped: why, and how to go on.

    Args:
        said: arguments beside ``--resume`` that have to be given again.
    """
    if not run.resumable:
        return f"{why} before the first step; nothing was saved"
    return f"{why}; go on with: {go_on(run, said)}"


@contextmanager
def saying_how_to_go_on(run: Run, said: Sequence[str] = ()) -> Iterator[None]:
    """Say of a run that is stopped in this block how to go on with it."""
    try:
        yield
    except Stopped as stop:
        raise Stopped(stopped(str(stop), run, said), stop.status) from None


def go_on(run: Run, said: Sequence[str] = ()) -> str:
    """The command that goes on with a run.

    Args:
        said: arguments beside ``--resume`` that have to be given again.
    """
    start = ["python"] if distributed.launched() == 1 else ["torchrun", "..."]
    return shlex.join([*start, "-m", "ltvr.train", "--resume", str(run.folder), *said])
