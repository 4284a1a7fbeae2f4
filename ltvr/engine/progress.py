"""What a person sees of a run in training: bars, a line an epoch, TensorBoard curves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

__all__ = ["Curves", "epoch_line", "progress"]


def progress(
    batches: Iterator[tuple[Tensor, Tensor]], what: str, done: int, total: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass the batches of an epoch on, and draw a bar of its progress if stderr is a terminal.

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
        disable=not sys.stderr.isatty(),
    )
    with bar:
        for images, labels in batches:
            yield images, labels
            bar.update(len(labels))


def epoch_line(record: dict[str, Any], epochs: int) -> str:
    """One line on an epoch: losses, accuracies, speed, time left in the stage."""
    measured = record["eval"]
    loss = f"loss {record['real_loss']:.3f}"
    if record["synthetic_loss"] is not None:
        loss += f" (synthetic {record['synthetic_loss']:.3f})"
    shots = " ".join(
        f"{name} {measured[name]:.1f}" if measured[name] is not None else f"{name} n/a"
        for name in ("all", "many", "medium", "few")
    )
    left = (record["seconds"] + record["eval_seconds"]) * (epochs - record["epoch"])
    return (
        f"{record['stage']} epoch {record['epoch']}/{epochs}  {loss}  "
        f"{record['evaluated_on']}: {shots}  {record['images_per_second']:.0f} images/s, "
        f"{left:.0f} s left"
    )


class Curves:
    """TensorBoard events of a run, closed at the end of a ``with`` block however that ends.

    The stages follow one another on the axis of epochs.
    """

    SCALARS = ("lr", "real_loss", "synthetic_loss", "real_accuracy", "synthetic_accuracy")

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, record: dict[str, Any], epochs_before: int) -> None:
        """Add the record of an epoch."""
        at = record["epoch"] + epochs_before
        for name in self.SCALARS:
            if record[name] is not None:
                self._writer.add_scalar(f"train/{name}", record[name], at)
        for name, value in record["eval"].items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{record['evaluated_on']}/{name}", value, at)

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
