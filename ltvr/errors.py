"""Errors that are the user's to mend, and how a command shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["CannotWrite", "Diverged", "Stopped", "UserError", "run"]


class UserError(ValueError):
    """What is wrong, what was expected and what to do, in one line."""


class Diverged(UserError):
    """A loss that is no longer a number: to go on with the same settings would not help."""


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


def run(main: Callable[[], int | None]) -> None:
    """Run a command; a ``UserError`` becomes one line on stderr and exit status 2, Ctrl-C 130."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
