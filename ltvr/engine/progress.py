"""What a person sees of a run in training: bars, a line an epoch, TensorBoard curves."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from tqdm import tqdm

from ltvr import distributed
from ltvr.engine.accuracy_table import SUBSETS
from ltvr.runs.files import cannot_write

__all__ = ["Curves", "epoch_line", "progress"]


def progress(
    batches: Iterator[tuple[Tensor, Tensor]], what: str, done: int, total: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass the batches of an epoch on, and draw a bar of its progress if stderr is a terminal.

    Of several ranks the first draws one, of its own images.

    Args:
        what: is going on, in front of the bar.
        done, total: images of the epoch that are done already, and all of them.
    """
    bar = tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=" images",
        leave=False,
        disable=not distributed.is_first() or sys.stderr is None or not sys.stderr.isatty(),
    )
    with bar:
        for images, labels in batches:
            yield images, labels
            bar.update(len(labels))


def epoch_line(record: dict[str, Any], epochs: int, every: int) -> str:
    """One line on an epoch: losses, accuracies, speed, time left in the stage.

    Args:
        epochs: of the stage, of which each ``every``-th is evaluated.
    """
    own, synthetic = record["real_loss"], record["synthetic_loss"]
    loss = "loss n/a" if own is None else f"loss {own:.3f}"  # real rows may count in none
    if synthetic is not None:
        loss += f" (synthetic {synthetic:.3f})"
    accuracy = ""
    if (measured := record["eval"]) is not None:
        shots = " ".join(
            f"{name} {measured[name]:.1f}" if measured[name] is not None else f"{name} n/a"
            for name in SUBSETS
        )
        if record["evaluated_on"] == "hold-out":
            balanced, error = (measured[f"balanced_accuracy{of}"] for of in ("", "_error"))
            shots = f"balanced {balanced:.1f} ± {error:.1f} {shots}"
        accuracy = f"  {record['evaluated_on']}: {shots}"
    to_come = epochs - record["epoch"]
    left = record["seconds"] * to_come + record["eval_seconds"] * math.ceil(to_come / every)
    return (
        f"{record['stage']} epoch {record['epoch']}/{epochs}  {loss}{accuracy}  "
        f"{record['images_per_second']:.0f} images/s, {left:.0f} s left"
    )


class Curves:
    """TensorBoard events of a run, closed at the end of a ``with`` block however that ends.

    The stages follow one another on the axis of epochs. They are written here and not in
    TensorBoard's own thread, whose failures on a full disk are tracebacks.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """

    SCALARS = ("lr", "real_loss", "synthetic_loss", "real_accuracy", "synthetic_accuracy")

    def __init__(self, folder: Path) -> None:
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / "tensorboard" / name
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._events = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, record: dict[str, Any], epochs_before: int) -> None:
        """Add the record of an epoch.

        Raises:
            CannotWrite: as for the class.
        """
        shown = {f"train/{name}": record[name] for name in self.SCALARS}
        measured = record["eval"] or {}
        shown |= {f"{record['evaluated_on']}/{name}": value for name, value in measured.items()}
        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in shown.items()
            if isinstance(value, float)
        ]
        at = record["epoch"] + epochs_before
        self._write(Event(wall_time=time.time(), step=at, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        try:
            self._events.write(event.SerializeToString())
        except OSError as error:
            raise cannot_write(self._path, error) from None

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
