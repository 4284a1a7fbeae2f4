"""Mixup."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Mixed, Mixing
from ltvr.transfer import to_device

__all__ = ["Mixup", "MixupOptions"]


@dataclass(frozen=True)
class MixupOptions(Options):
    """Mixup."""

    mixup_alpha: float = option(1.0, "a, of the Beta(a, a) that the share is drawn from", above=0)


class Mixup(Mixing):
    """x = l x_i + (1 - l) x_j with one l ~ Beta(a, a) a batch; the loss likewise.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018. j is a random permutation of
    the batch. The long-tailed field takes a = 1 on CIFAR and 0.2 on ImageNet-LT (Zhong et al.,
    Improving Calibration for Long-Tailed Recognition, CVPR 2021).
    """

    options_type = MixupOptions

    def __init__(self, options: MixupOptions) -> None:
        super().__init__(options)
        self.alpha = options.mixup_alpha

    def mix(
        self, images: Tensor, targets: Targets, counts: Int64Array, random: np.random.Generator
    ) -> Mixed:
        """Mixed images and targets of two labels."""
        share = float(random.beta(self.alpha, self.alpha))
        partner = torch.from_numpy(random.permutation(len(images)))
        mixed = torch.lerp(images[to_device(partner, images.device)], images, share)
        shares = torch.full((len(images),), share)
        return Mixed(mixed, Targets(targets.labels, targets.labels[partner], shares))
