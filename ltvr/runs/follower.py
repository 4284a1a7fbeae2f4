"""The run folder for ranks that write nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltvr.errors import UserError
from ltvr.runs.folder import Run

__all__ = ["Follower"]


class Follower(Run):
    """A ``Run`` that reads what the first rank writes, and leaves the writing to it.

    Raises:
        UserError: the folder of the first rank is not there for this one.
    """

    writes = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if not folder.is_dir():
            raise UserError(
                f"the first rank has the run folder {folder}, and this one has not; put --out "
                "where all machines see it, and start in the same folder on all"
            )

    def hold(self, command: str) -> None:
        """Nothing: the first rank holds the lock."""

    def load(self) -> tuple[dict[str, Any], str | None]:
        """Read the state to go on from; the first rank renames what is damaged."""
        return self.peek()

    def save(self, state: dict[str, Any]) -> None:
        """Nothing."""

    def save_weights(self, name: str, state: dict[str, Any]) -> None:
        """Nothing."""

    def append(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def truncate(self, stage: str, epoch: int, stages: list[str]) -> None:
        """Nothing."""

    def resumed_by(self, command: str) -> None:
        """Nothing."""

    def note_diverged(self, line: str) -> None:
        """Nothing."""

    def forget_diverged(self) -> None:
        """Nothing."""

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Nothing."""
