"""Runs found in a folder of runs."""

from __future__ import annotations

from pathlib import Path

from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.runs.lock import begun_by

__all__ = ["hold_newest_unfinished", "newest_of_job"]


def hold_newest_unfinished(out: Path, command: str) -> tuple[Run | None, list[str]]:
    """Find the run of ``out`` that was last written to and is not finished, and lock it.

    Returns:
        The run, None if there is none; and why runs were passed over that are in use, that have
        diverged, or that cannot be read.
    """
    folders = {path.parent for path in out.glob("*/*.pt")}
    runs = [Run(folder) for folder in folders if (folder / "config.yaml").is_file()]
    unfinished = [run for run in runs if run.resumable and not run.finished]
    passed: list[str] = []
    for run in sorted(unfinished, key=lambda run: run.written, reverse=True):
        try:
            run.hold(command)
            if run.diverged:
                raise UserError(f"{run.folder} {run.diverged} (or name it, to try it again)")
            run.config()
            run.peek()
            return run, passed
        except UserError as error:
            run.release()
            passed.append(str(error))
    return None, passed


def newest_of_job(out: Path, job: str, command: str) -> Run | None:
    """The newest run of ``out`` that a command of a job began, and that has a checkpoint.

    Another command may have gone on with it since; when the job starts again, this is its run.

    Args:
        job: of ``ltvr.distributed.job``.
        command: as the run folder's lock has it.
    """
    folders = (path.parent for path in out.glob("*/lock"))
    runs = [Run(folder) for folder in folders if begun_by(folder) == (job, command)]
    return max((run for run in runs if run.resumable), key=lambda run: run.written, default=None)
