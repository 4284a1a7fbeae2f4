"""Checkpoints that are written while training goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from ltvr.runs.folder import Run

__all__ = ["Saver"]


class Saver:
    """Writes the checkpoints of a run in a thread of its own, one after the other.

    Training waits for the copy of the state to the host, and not for the disk. A failure to write
    is raised by the next call of any method.

    Args:
        run: its folder.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Copy a state, and begin to write it once the one before is written.

        Raises:
            CannotWrite: the one before could not be.
        """
        copy = _copied(state) if self._run.writes else {}
        self.wait()
        self._writing = self._thread.submit(self._run.save, copy)

    def check(self) -> None:
        """Raise what has gone wrong, if that is known by now; wait for nothing.

        Raises:
            CannotWrite: a disk that is full, read-only or broken.
        """
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when all that was given to ``save`` is on the disk.

        Raises:
            CannotWrite: as ``check``.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _copied(state: Any) -> Any:
    """The same in memory that training does not touch, on the host."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_copied(value) for value in state)
    return state
