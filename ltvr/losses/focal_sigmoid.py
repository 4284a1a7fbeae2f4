"""Focal loss over sigmoids, one class against the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.losses.base import Loss, Outputs

__all__ = ["FocalSigmoid", "FocalSigmoidOptions"]


@dataclass(frozen=True)
class FocalSigmoidOptions(Options):
    """Focal loss over sigmoids."""

    focal_sigmoid_gamma: float = option(
        2.0, "exponent of |t - p|; 0 is the binary cross-entropy", at_least=0
    )
    focal_sigmoid_prior: bool = option(
        True, "begin with every p at 1 / C; without, at 1 / 2, which may diverge at once"
    )


class FocalSigmoid(Loss):
    """``L = sum_c |t_c - p_c|^gamma BCE(p_c, t_c)``, p = sigmoid(z - log(C - 1)), t_c = [c = y].

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, as Cui et al., Class-Balanced Loss
    Based on Effective Number of Samples, CVPR 2019, classify with it: at the start every p is
    1 / C, without which it diverges. There the classifier's bias begins at -log(C - 1), and has no
    weight decay. Here that is a constant of the loss: it moves all logits alike, so that the
    likeliest class and the softmax of the logits are the same with or without it, and the bias
    itself is what is learnt beside it, under weight decay as every weight.
    """

    options_type = FocalSigmoidOptions

    def __init__(self, options: FocalSigmoidOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        self.gamma = options.focal_sigmoid_gamma
        others = max(1, len(counts) - 1)
        self.bias = -math.log(others) if options.focal_sigmoid_prior else 0.0

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row: [R]."""
        z = outputs.logits + self.bias
        # The logit of t = 1 where t is 1, of t = 0 where it is 0: |t - p| = sigmoid(-right).
        right = torch.where(F.one_hot(labels, z.shape[1]).bool(), z, -z)
        # In logarithms, so that a power below 1 has a gradient where |t - p| rounds to 0.
        missed = (self.gamma * F.logsigmoid(-right)).exp()
        return (missed * F.softplus(-right)).sum(1)
