"""Class-dependent temperatures (CDT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.losses.base import Loss, Outputs

__all__ = ["CDT", "CDTOptions"]


@dataclass(frozen=True)
class CDTOptions(Options):
    """Class-dependent temperatures."""

    cdt_gamma: float = option(
        0.2,
        "exponent of n_max / n_c; up to 0.4 on CIFAR-10, 0.2 on CIFAR-100; 0 is the cross-entropy",
        at_least=0,
        at_most=10,
    )


class CDT(Loss):
    """L = -log softmax(z / a)_y with a_c = (n_max / n_c)^gamma; inference reads z.

    Ye et al., Identifying and Compensating for Feature Deviation in Imbalanced Deep Learning, 2020
    (arXiv 2001.01385), with the gamma of BagofTricks-LT: a rare class has to reach a larger logit
    in training.
    """

    options_type = CDTOptions

    def __init__(self, options: CDTOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        temperatures = (counts.max() / counts.double()) ** options.cdt_gamma
        self.temperatures: Tensor
        self.register_buffer("temperatures", temperatures.float(), persistent=False)

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row: [R]."""
        return F.cross_entropy(outputs.logits / self.temperatures, labels, reduction="none")
