"""What Ctrl-C and SIGTERM do to a command while it has nothing to finish: one line, at once.

An exception out of a signal handler can surface anywhere, in the import of a library or in a
destructor, and be printed there or be swallowed. Hence the process ends in the handler: whatever a
run has kept is whole at any moment (``ltvr.runs.files``).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

__all__ = ["STOPS", "EndAtOnce", "say_when_stopped"]

STOPS = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a command to stop."""


class EndAtOnce:
    """A signal handler that prints a line and ends the process with 128 + the signal's number.

    Args:
        line: what is printed; asked for when the signal comes.
    """

    def __init__(self, line: Callable[[], str]) -> None:
        self.line, self.process = line, os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self.process:  # and not in what was forked from it
            with suppress(OSError, RuntimeError, ValueError):  # closed, or in the middle of a write
                sys.stdout.flush()
            start = "\n" if os.isatty(2) else ""
            os.write(2, f"{start}{self.line()}\n".encode(errors="replace"))
        os._exit(128 + number)

    def install(self) -> None:
        """Handle the signals that ask to stop. A request to save has nothing to save yet."""
        for number in STOPS:
            signal.signal(number, self)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def say_when_stopped(line: Callable[[], str]) -> None:
    """Change the line of the handler, where there is one: that is in a command, not in a library.

    Args:
        line: as of ``EndAtOnce``.
    """
    if isinstance(signal.getsignal(signal.SIGINT), EndAtOnce):
        EndAtOnce(line).install()
