"""Errors that are the user's to mend, and how a command shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["Diverged", "UserError", "run"]


class UserError(ValueError):
    """What is wrong, what was expected and what to do, in one line."""


class Diverged(UserError):
    """A loss that is no longer a number: to go on with the same settings would not help."""


def run(main: Callable[[], int | None]) -> None:
    """Run a command; a ``UserError`` becomes one line on stderr and exit status 2, Ctrl-C 130."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
