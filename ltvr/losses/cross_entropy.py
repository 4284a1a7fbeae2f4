"""Cross-entropy, the loss of the paper."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ltvr.losses.base import Loss, Outputs

__all__ = ["CrossEntropy"]


class CrossEntropy(Loss):
    """L = -log p_y with p = softmax(z), z the logits and y the label."""

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The cross-entropy of every row: [R]."""
        return F.cross_entropy(outputs.logits, labels, reduction="none")
