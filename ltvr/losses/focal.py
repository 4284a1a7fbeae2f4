"""Focal loss over the softmax."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.losses.base import Loss, Outputs

__all__ = ["Focal", "FocalOptions"]


@dataclass(frozen=True)
class FocalOptions(Options):
    """Focal loss."""

    focal_gamma: float = option(2.0, "exponent of 1 - p; 0 is the cross-entropy", at_least=0)
    focal_detach: bool = option(
        False, "take 1 - p as a constant factor, without a gradient of its own"
    )


class Focal(Loss):
    """L = (1 - p_y)^gamma (-log p_y) with p = softmax(z): what is learnt already counts less.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4, over the softmax as the
    long-tailed field uses it. With ``focal_detach`` the factor has no gradient.
    """

    options_type = FocalOptions

    def __init__(self, options: FocalOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        self.gamma, self.detach = options.focal_gamma, options.focal_detach

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The focal loss of every row: [R]."""
        cross_entropy = F.cross_entropy(outputs.logits, labels, reduction="none")
        # By expm1, since 1 - p_y loses all digits where p_y is near 1; above 0, so that the
        # gradient of its power is finite.
        missed = (-(-cross_entropy).expm1()).clamp_min(1e-12)
        if self.detach:
            missed = missed.detach()
        return missed**self.gamma * cross_entropy
