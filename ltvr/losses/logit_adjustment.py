"""Logit adjustment as a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.losses.base import Loss, Outputs

__all__ = ["LogitAdjustment", "LogitAdjustmentOptions"]

LEAST = 1e-12
"""Added to pi^tau before the logarithm, as the authors' code does."""


@dataclass(frozen=True)
class LogitAdjustmentOptions(Options):
    """Logit adjustment."""

    logit_adjustment_tau: float = option(
        1.0, "exponent of the class frequencies; 0 is the cross-entropy", at_least=0
    )


class LogitAdjustment(Loss):
    """L = -log softmax(z + log(pi^tau + 1e-12))_y, pi_c = n_c / N; inference reads z.

    Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 10 with the tau of their
    code. The published numbers are after some 1,300 epochs of CIFAR.
    """

    options_type = LogitAdjustmentOptions

    def __init__(self, options: LogitAdjustmentOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        pi = counts.double() / counts.sum()
        adjustment = (pi**options.logit_adjustment_tau + LEAST).log().float()
        self.adjustment: Tensor
        self.register_buffer("adjustment", adjustment, persistent=False)

    def offsets(self, classes: Tensor) -> Tensor:
        """log(pi_c^tau + 1e-12)."""
        return self.adjustment[classes]

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row: [R]."""
        return F.cross_entropy(outputs.logits + self.adjustment, labels, reduction="none")
