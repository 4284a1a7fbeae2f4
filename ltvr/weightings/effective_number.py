"""Class-balanced weights by the effective number of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.weightings.base import Weighting

__all__ = ["EffectiveNumber", "EffectiveNumberOptions"]


@dataclass(frozen=True)
class EffectiveNumberOptions(Options):
    """Weights by effective number."""

    effective_number_beta: float = option(
        0.9999, "0: all classes alike; towards 1: as 1 / n_c", at_least=0, below=1
    )


class EffectiveNumber(Weighting):
    """u_c ~ (1 - beta) / (1 - beta^n_c), normalised to a sum of C.

    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, eq. 4; beta =
    0.9999 as in their CIFAR runs and in LDAM-DRW (0.999 is in use as well).
    """

    options_type = EffectiveNumberOptions

    def __init__(self, options: EffectiveNumberOptions) -> None:
        super().__init__(options)
        self.beta = options.effective_number_beta

    def weights(self, counts: Tensor) -> Tensor:
        """u_c: [C] float64."""
        decay = math.log(self.beta) if self.beta else -math.inf
        # 1 - beta^n to full precision where beta is near 1.
        raw = 1 / -(counts.double() * decay).expm1()
        return raw * len(raw) / raw.sum()
