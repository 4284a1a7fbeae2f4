"""What asks a command to stop does while it has nothing to finish: one line, at once.

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

__all__ = ["STOPS", "EndAtOnce", "say_when_stopped", "stops"]

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a command to stop."""


def stops() -> list[signal.Signals]:
    """Those of ``STOPS`` that are to be heard: under ``nohup`` a closed terminal is not."""
    deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in STOPS if not (deaf and number == signal.SIGHUP)]


class EndAtOnce:
    """A signal handler that prints a line and ends the process with 128 + the signal's number.

    Args:
        line: what is printed; asked for when the signal comes.
    """

    def __init__(self, line: Callable[[], str]) -> None:
        self.line, self.process = line, os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self.process:  # and not in what was forked from it
            # Closed, broken, or in the middle of a write.
            with suppress(OSError, RuntimeError, ValueError):
                if sys.stdout is not None:
                    sys.stdout.flush()
            with suppress(OSError):
                if sys.stderr is not None:  # or a file of the run may have its number
                    start = "\n" if os.isatty(2) else ""
                    os.write(2, f"{start}{self.line()}\n".encode(errors="replace"))
        os._exit(128 + number)

    def install(self) -> None:
        """Handle the signals that ask to stop. A request to save has nothing to save yet."""
        for number in stops():
            signal.signal(number, self)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def say_when_stopped(line: Callable[[], str]) -> None:
    """Change the line of the handler, where there is one: that is in a command, not in a library.

    Args:
        line: as of ``EndAtOnce``.
    """
    if isinstance(signal.getsignal(signal.SIGINT), EndAtOnce):
        EndAtOnce(line).install()
