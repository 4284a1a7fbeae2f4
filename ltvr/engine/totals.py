"""Losses and accuracies of an epoch of training, real and synthetic samples apart."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ltvr import distributed
from ltvr.data.longtail import Int64Array
from ltvr.engine.step import Rows
from ltvr.stages.base import StageLoss

__all__ = ["EpochTotals"]


class EpochTotals:
    """Sums over the micro-batches of an epoch, kept on the device: no step waits for them."""

    NAMES = (
        "real_loss",
        "real_correct",
        "real",
        "synthetic_loss",
        "synthetic_correct",
        "synthetic",
    )

    def __init__(self, device: torch.device, classes: int) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self._of_ranks: Tensor | None = None
        self.synthetic_counts = torch.zeros(classes, dtype=torch.int64)
        self._seconds_before = 0.0
        self._began: float | None = None

    def begin(self) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """That the epoch has taken so far, those before the run was resumed among them."""
        if self._began is None:
            return self._seconds_before
        return self._seconds_before + time.perf_counter() - self._began

    def count(self, generated: Int64Array) -> None:
        """Count the rows [C] that are generated of each class in a step, on all ranks."""
        self.synthetic_counts += torch.from_numpy(generated)

    def add(self, loss: StageLoss, rows: Rows, real: int, of: tuple[int, int]) -> None:
        """Add one micro-batch.

        Args:
            loss: what it adds to the means of the step.
            rows: the first ``real`` are the real samples.
            of: real and generated rows of the step, on all ranks.
        """
        self._of_ranks = None
        number, generated = rows.counted[:real].sum(), rows.counted[real:].sum()
        zero = torch.zeros((), device=self.sums.device)
        synthetic = loss.synthetic if loss.synthetic is not None else zero
        self.sums += torch.stack(
            [
                loss.real * of[0],
                rows.correct[:real].sum(),
                zero + number,
                synthetic * of[1],
                (rows.correct[real:] * rows.counted[real:]).sum(),
                zero + generated,
            ]
        ).double()

    def means(self) -> dict[str, float | None]:
        """Mean loss and accuracy in percent of each kind; None for a kind that had no sample."""
        s = dict(zip(self.NAMES, self._gathered().sum(0).tolist(), strict=True))
        return {
            f"{kind}_{what}": s[f"{kind}_{key}"] / s[kind] * scale if s[kind] else None
            for kind in ("real", "synthetic")
            for what, key, scale in (("loss", "loss", 1), ("accuracy", "correct", 100))
        }

    def _gathered(self) -> Tensor:
        """The sums of every rank, [W, 6]; kept until the next micro-batch."""
        if self._of_ranks is None:
            self._of_ranks = self.sums.new_zeros(distributed.ranks(), len(self.NAMES))
            self._of_ranks[distributed.rank()] = self.sums
            distributed.sum_over_ranks(self._of_ranks)
        return self._of_ranks

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of every rank, for a checkpoint."""
        return {
            "sums": self._gathered(),
            "synthetic_counts": self.synthetic_counts,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this rank's sums of a checkpoint; if that is of another number of ranks, the first
        takes the sums of all.
        """
        self._of_ranks = None
        of_ranks = state["sums"].reshape(-1, len(self.NAMES))
        if len(of_ranks) == distributed.ranks():
            self.sums.copy_(of_ranks[distributed.rank()])
        else:
            self.sums.copy_(of_ranks.sum(0) * distributed.is_first())
        self.synthetic_counts.copy_(state["synthetic_counts"])
        self._seconds_before = state.get("seconds", 0.0)  # not of versions before 0.2
