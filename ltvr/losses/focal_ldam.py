"""Focal loss as the code of LDAM has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.losses.base import Loss, Outputs

__all__ = ["FocalLDAM", "FocalLDAMOptions"]


@dataclass(frozen=True)
class FocalLDAMOptions(Options):
    """Focal loss of LDAM's code."""

    focal_ldam_gamma: float = option(1.0, "exponent; 0 is the cross-entropy", at_least=0)


class FocalLDAM(Loss):
    """L = (1 - e^-l)^gamma l with l = u_y (-log p_y): the factor has the weight of the class, too.

    ``FocalLoss`` in the code of Cao et al., Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss, NeurIPS 2019, gamma 1. Without weights of the classes it
    is ``focal``; with ``--weighting`` a heavy class is taken for one that is not learnt yet. Their
    mean divides by the rows: ``--weighting-normalise batch``.
    """

    options_type = FocalLDAMOptions

    def __init__(self, options: FocalLDAMOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        self.gamma = options.focal_ldam_gamma

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row without weights: [R]."""
        return self.rows_weighted(outputs, labels, torch.ones_like(outputs.logits[:, 0]))

    def rows_weighted(self, outputs: Outputs, labels: Tensor, weights: Tensor) -> Tensor:
        """(1 - e^-l)^gamma (-log p_y), which times u_y is L: [R]."""
        cross_entropy = F.cross_entropy(outputs.logits, labels, reduction="none")
        # Above 0, so that its power has a gradient where a row is sure.
        missed = (-(-weights * cross_entropy).expm1()).clamp_min(1e-12)
        return missed**self.gamma * cross_entropy
