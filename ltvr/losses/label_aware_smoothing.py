"""Label-aware smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.losses.base import Loss, Outputs

__all__ = ["LabelAwareSmoothing", "LabelAwareSmoothingOptions"]


@dataclass(frozen=True)
class LabelAwareSmoothingOptions(Options):
    """Label-aware smoothing."""

    smoothing_head: float = option(
        0.3, "smoothing of the largest class (0.4 on CIFAR-100)", at_least=0, at_most=1
    )
    smoothing_tail: float = option(
        0.0, "smoothing of the smallest class (0.1 on CIFAR-100)", at_least=0, at_most=1
    )


class LabelAwareSmoothing(Loss):
    """L = (1 - eps_y) (-log p_y) + eps_y mean_c(-log p_c): large classes are smoothed more.

    eps_c = eps_tail + (eps_head - eps_tail) sin(pi/2 (n_c - n_min) / (n_max - n_min)); on balanced
    data eps_tail. Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021, eq. 6
    with the sine ("concave") of their code. It is the loss of their second stage,
    ``--mislas-loss``; of cRT by ``--crt-loss``.
    """

    options_type = LabelAwareSmoothingOptions

    def __init__(self, options: LabelAwareSmoothingOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        head, tail = options.smoothing_head, options.smoothing_tail
        n = counts.double()
        rank = (n - n.min()) / (n.max() - n.min()).clamp_min(1)
        smoothing = tail + (head - tail) * torch.sin(rank * math.pi / 2)
        self.smoothing: Tensor
        self.register_buffer("smoothing", smoothing.float(), persistent=False)

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row: [R]."""
        surprise = -outputs.logits.log_softmax(1)
        eps = self.smoothing[labels]
        right = surprise.gather(1, labels[:, None]).squeeze(1)
        return (1 - eps) * right + eps * surprise.mean(1)
