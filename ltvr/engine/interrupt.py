"""Ctrl-C and SIGTERM as a request to stop at the next whole step."""

from __future__ import annotations

import signal
from types import TracebackType
from typing import Any

__all__ = ["Interrupt"]


class Interrupt:
    """Context in which a first Ctrl-C or SIGTERM sets ``requested``; a second stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
