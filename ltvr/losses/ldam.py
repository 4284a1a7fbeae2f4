"""Label-distribution-aware margins (LDAM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr.classifiers.cosine import CosineOptions
from ltvr.config.options import Options, option
from ltvr.errors import UserError
from ltvr.losses.base import Loss, Outputs

__all__ = ["LDAM", "LDAMOptions"]


@dataclass(frozen=True)
class LDAMOptions(Options):
    """LDAM loss."""

    ldam_max_margin: float = option(
        0.5, "margin of the smallest class, of a cosine", at_least=0, at_most=2
    )
    ldam_scale: float = option(30.0, "s, the factor on the cosines: --cosine-scale", above=0)

    def check(self, config: Any) -> None:
        """Refuse logits that are not cosines times s."""
        if CosineOptions not in config.in_use:
            raise UserError(
                "loss = ldam: its margins are of cosines; say --classifier cosine "
                f"--cosine-scale {self.ldam_scale:g}"
            )
        heads, scale = config.of(CosineOptions).cosine_heads, config.of(CosineOptions).cosine_scale
        if heads != 1:
            raise UserError(
                f"cosine_heads = {heads}: with loss = ldam expected 1, as its margins are of one "
                "cosine a class"
            )
        if scale != self.ldam_scale:
            raise UserError(
                f"ldam_scale = {self.ldam_scale:g}: expected cosine_scale = {scale:g}, the factor "
                "on the cosines; set both alike (30 in the paper)"
            )


class LDAM(Loss):
    """L = -log softmax(s (cos - m_y [c = y]))_y with m_c = m_max (n_min / n_c)^(1/4).

    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS
    2019, eq. 13 and 14; s = 30 and m_max = 0.5 are those of the authors' code (0.3 is in use for
    ImageNet-LT). The logits are s cos already: the cosine classifier has the factor s, and so
    what it gives in inference is the softmax that was trained. In the authors' code the loss
    multiplies by s, which decides the same. Their layer starts with weights of norm 1, ours from
    U(-1/sqrt(E), 1/sqrt(E)), of norm about 0.58: the directions, which alone count, are of one
    distribution, but turn faster in the first steps.

    With the weights of ``ltvr.weightings`` it is LDAM-DRW.
    """

    options_type = LDAMOptions
    of_any_logits = False

    def __init__(self, options: LDAMOptions, counts: Tensor) -> None:
        super().__init__(options, counts)
        margins = options.ldam_max_margin * (counts.min() / counts.double()) ** 0.25
        self.margins: Tensor
        """s m_c, in units of the logits."""
        self.register_buffer("margins", (options.ldam_scale * margins).float(), persistent=False)

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row: [R]."""
        margin = self.margins[labels].to(outputs.logits.dtype)
        logits = torch.scatter_add(outputs.logits, 1, labels[:, None], -margin[:, None])
        return F.cross_entropy(logits, labels, reduction="none")
