"""What may ask a run in training to save or to stop: signals, a time limit, an interval."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from ltvr import distributed
from ltvr.errors import Stopped
from ltvr.signals import EndAtOnce, stops

__all__ = ["TIME_IS_UP", "Requests"]

TIME_IS_UP = 75
"""Exit status of a run that its time limit stopped: EX_TEMPFAIL of sysexits.h, try again."""


NEAR = 5.0
"""Seconds, at most, between the first and the last rank to find the time limit reached."""
ONE = 1.0
"""A second signal within these seconds is taken for a repetition of the first: ``timeout``, systemd
and some schedulers send one request both to ``torchrun``, which passes it on, and to its ranks."""


class Requests:
    """Requests to save and to stop, which the trainer attends to where its state is whole.

    As a context manager it takes the signals over: Ctrl-C, SIGTERM and a closed terminal ask to
    stop, a second of them, later than ``ONE``, ends the process at once, SIGUSR1 asks to save.

    Args:
        save_every: seconds between two saves; None saves at the end of epochs alone.
        time_limit: seconds from ``began`` on after which the run is to stop; None for no limit.
        began: by ``time.monotonic``; None is now.
        last_epoch: of all stages, from 1, after which the run is to stop; None for no such epoch.
    """

    def __init__(
        self,
        save_every: float | None = None,
        time_limit: float | None = None,
        began: float | None = None,
        last_epoch: int | None = None,
    ) -> None:
        now = time.monotonic()
        self.save_every, self.last_epoch = save_every, last_epoch
        self.deadline = None if time_limit is None else (began or now) + time_limit
        self._saved = now
        self._save_asked = False
        self._stopped_by: int | None = None
        self._stopped_at = 0.0
        self._before: dict[int, Any] = {}

    def attend(self, save: Callable[[], None]) -> None:
        """Save if that is asked for or due; stop, after a save, if that is asked for.

        Raises:
            Stopped: why, and with which exit status.
        """
        self._answer(*self._asked(), save)

    def ended(self, epoch: int) -> None:
        """Stop, if ``epoch``, which is over and saved, was to be the last, or one before it was.

        Raises:
            Stopped: it was.
        """
        if self.last_epoch is not None and epoch >= self.last_epoch:
            raise Stopped(f"stopped after epoch {epoch}, as asked", 0)

    def agree_on_the_end(self) -> None:
        """Take the deadline of the first rank, whenever the others were started."""
        now = time.monotonic()
        left = distributed.from_first(None if self.deadline is None else self.deadline - now)
        self.deadline = None if left is None else now + left

    def attend_together(self, save: Callable[[], None]) -> None:
        """``attend`` on all ranks at once: what any of them is asked for, or finds due, all do."""
        status, due = distributed.any_of_ranks([int(asked) for asked in self._asked()])
        self._answer(status, bool(due), save)

    def _asked(self, early: float = 0.0) -> tuple[int, bool]:
        """The exit status with which to stop, 0 to go on; and whether to save.

        Args:
            early: seconds before the deadline in which it counts as reached.
        """
        now, status = time.monotonic() + early, 0
        if self._stopped_by is not None:
            status = 128 + self._stopped_by
        elif self.deadline is not None and now >= self.deadline:
            status = TIME_IS_UP
        due = self.save_every is not None and now - self._saved >= self.save_every
        return status, due or self._save_asked

    def _answer(self, status: int, due: bool, save: Callable[[], None]) -> None:
        if status or due:
            self._save_asked = False
            save()
            self.saved()
        if status:
            limit = ", the time limit is reached" if status == TIME_IS_UP else ""
            raise Stopped(f"stopped{limit}", status)

    def saved(self) -> None:
        """Note that the state has just been saved, for whatever reason."""
        self._saved = time.monotonic()

    def __enter__(self) -> Requests:
        if threading.current_thread() is threading.main_thread():  # no other may take signals
            handlers = {**dict.fromkeys(stops(), self._on_stop), signal.SIGUSR1: self._on_save}
            self._before = {n: signal.signal(n, handler) for n, handler in handlers.items()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # The request came after the last ``attend``; or it stopped the first rank, and the error
        # is that this rank has lost it.
        status = self._asked(early=NEAR)[0]
        if self._stopped_by is not None and error is None:
            raise Stopped("stopped", status)
        if error is not None and status and distributed.lost(error):
            raise Stopped("stopped", status) from None

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self._save_asked = True

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._stopped_by is None:
            self._stopped_by, self._stopped_at = number, now
            return
        if now < self._stopped_at + ONE:
            return
        at_once = self._before[number]
        if isinstance(at_once, EndAtOnce):
            at_once(number, frame)
        raise KeyboardInterrupt
