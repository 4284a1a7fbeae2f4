"""Mixup."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Mixing, Mixture, partners

__all__ = ["Mixup", "MixupOptions"]


@dataclass(frozen=True)
class MixupOptions(Options):
    """Mixup."""

    mixup_alpha: float = option(1.0, "a, of the Beta(a, a) that the share is drawn from", above=0)


class Mixup(Mixing):
    """x = l x_i + (1 - l) x_j with one l ~ Beta(a, a) a batch; the loss likewise.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018. j is a random permutation of
    the batch, or of each of its groups. The long-tailed field takes a = 1 on CIFAR and 0.2 on
    ImageNet-LT (Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021).
    """

    options_type = MixupOptions

    def __init__(self, options: MixupOptions) -> None:
        super().__init__(options)
        self.alpha = options.mixup_alpha

    def draw(
        self,
        targets: Targets,
        counts: Int64Array,
        size: int,
        random: np.random.Generator,
        groups: int = 1,
    ) -> Mixture:
        """Two labels a row, and one share."""
        share, labels = float(random.beta(self.alpha, self.alpha)), targets.labels
        partner = partners(len(labels), groups, random)
        shares = torch.full((len(labels),), share)
        return Mixture(Targets(labels, labels[partner], shares), partner, share)
