"""The cosine classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr.classifiers.base import Classifier
from ltvr.config.options import Options, option

__all__ = ["Cosine", "CosineOptions"]


@dataclass(frozen=True)
class CosineOptions(Options):
    """Cosine classifier."""

    cosine_scale: float = option(16.0, "tau, the factor on the cosines", above=0)


class Cosine(Classifier):
    """``z_c = tau <x, w_c> / (|x| |w_c|)``: the length of a class's weights decides nothing.

    Tang et al., Long-Tailed Classification by Keeping the Good and Removing the Bad Momentum Causal
    Effect, NeurIPS 2020, eq. 10 with one head and ``N = |x| |w|``: tau = 16, weights drawn from
    U(-1/sqrt(E), 1/sqrt(E)), no bias.
    """

    options_type = CosineOptions

    def __init__(self, options: CosineOptions, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.scale = options.cosine_scale
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [R, E] to logits [R, C]; lengths are taken at least in float32."""
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        return self.scale * F.linear(F.normalize(embeddings.to(wide)), F.normalize(self.weight))
