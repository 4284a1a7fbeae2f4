"""Balanced softmax."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ltvr.config.options import Options
from ltvr.losses.base import Loss, Outputs

__all__ = ["BalancedSoftmax"]


class BalancedSoftmax(Loss):
    """L = -log softmax(z + log n)_y, n_c the training images of class c; inference reads z.

    Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, eq. 4. The
    logit adjustment with tau = 1, but for a constant that the softmax does not see.
    """

    def __init__(self, options: Options, counts: Tensor) -> None:
        super().__init__(options, counts)
        self.log_counts: Tensor
        self.register_buffer("log_counts", counts.double().log().float(), persistent=False)

    def offsets(self, classes: Tensor) -> Tensor:
        """log n_c."""
        return self.log_counts[classes]

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row: [R]."""
        return F.cross_entropy(outputs.logits + self.log_counts, labels, reduction="none")
