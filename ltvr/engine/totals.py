"""Losses and accuracies of an epoch of training, real and synthetic samples apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ltvr.afa.planning import IGNORED, SynthesisPlan
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
        self.synthetic_counts = torch.zeros(classes, dtype=torch.int64)

    def count(self, plan: SynthesisPlan) -> None:
        """Count the rows that ``plan``, still on the host, generates of each class."""
        made = plan.labels[plan.labels != IGNORED]
        self.synthetic_counts += torch.bincount(made, minlength=len(self.synthetic_counts))

    def add(self, loss: StageLoss, rows: Rows, real: int) -> None:
        """Add one micro-batch; the first ``real`` rows are the real samples."""
        number = rows.counted[real:].sum()
        zero = torch.zeros((), device=self.sums.device)
        synthetic = loss.synthetic if loss.synthetic is not None else zero
        self.sums += torch.stack(
            [
                loss.real * real,
                rows.correct[:real].sum(),
                zero + real,
                synthetic * number,
                (rows.correct[real:] * rows.counted[real:]).sum(),
                zero + number,
            ]
        ).double()

    def means(self) -> dict[str, float | None]:
        """Mean loss and accuracy in percent of each kind; None for a kind that had no sample."""
        s = dict(zip(self.NAMES, self.sums.tolist(), strict=True))
        return {
            f"{kind}_{what}": s[f"{kind}_{key}"] / s[kind] * scale if s[kind] else None
            for kind in ("real", "synthetic")
            for what, key, scale in (("loss", "loss", 1), ("accuracy", "correct", 100))
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, for a checkpoint."""
        return {"sums": self.sums, "synthetic_counts": self.synthetic_counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the sums of a checkpoint."""
        self.sums.copy_(state["sums"])
        self.synthetic_counts.copy_(state["synthetic_counts"])
