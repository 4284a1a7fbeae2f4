"""``metrics.jsonl`` of a run: a record an epoch, a line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ltvr.errors import UserError
from ltvr.runs import files, legacy
from ltvr.runs.forms import Form, check

__all__ = ["METRICS", "NUMBER", "append_record", "read_records", "truncate_records"]

NUMBER: Form = (float, None)
METRICS: Form = {
    "all": float, "many": NUMBER, "medium": NUMBER, "few": NUMBER, "macro_f1": NUMBER,
    "worst_class": NUMBER, "calibration_error": NUMBER, "per_class": [NUMBER],
}  # fmt: skip
"""What an evaluation holds, of an epoch or in a summary."""
RECORD: Form = {
    "stage": (str, int), "epoch": int, "lr": float, "real_loss": NUMBER, "real_accuracy": NUMBER,
    "synthetic_loss": NUMBER, "synthetic_accuracy": NUMBER, "synthetic_counts": [int],
    "seconds": float, "eval_seconds": float, "evaluated_on": str, "eval": (METRICS, None),
}  # fmt: skip


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records of the epochs so far, in order; none where there is no file.

    The last line may be a half one, of a write that a crash cut off: it is no record.

    Raises:
        UserError: another line that is no record.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from None
    while lines and not lines[-1]:
        lines.pop()
    records = []
    for number, line in enumerate(lines, 1):
        source = f"{path} line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise UserError(f"{source} is no record; restore it from a copy") from None
        check(record, RECORD, source)
        records.append(legacy.record(record))
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add the record of an epoch.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    files.append(path, json.dumps(record) + "\n")


def truncate_records(path: Path, stage: str, epoch: int, stages: list[str]) -> None:
    """Drop the records of ``epoch`` of ``stage`` and after: they are about to be made again.

    Args:
        stages: the names of all stages, in order.

    Raises:
        UserError: a record of another stage.
    """
    at = (stages.index(stage), epoch)
    records = read_records(path)
    unknown = [r["stage"] for r in records if r["stage"] not in stages]
    if unknown:
        raise UserError(f"{path} has a record of stage {unknown[0]}, which is not one")
    kept = [r for r in records if (stages.index(r["stage"]), r["epoch"]) < at]
    files.write(path, "".join(json.dumps(r) + "\n" for r in kept))
