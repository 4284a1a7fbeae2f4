"""The capsule classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ltvr.classifiers._normalised import Normalised, NormalisedOptions
from ltvr.config.options import option

__all__ = ["Capsule", "CapsuleOptions"]


@dataclass(frozen=True)
class CapsuleOptions(NormalisedOptions):
    """Capsule classifier."""

    capsule_scale: float = option(16.0, "tau, the factor on the logits", above=0)
    capsule_heads: int = option(
        1, "K, parts of the embedding with a logit each", at_least=1, architecture=True
    )


class Capsule(Normalised):
    """``N = (|x| + 1) |w|``: ``z_c = tau / K sum_k |x^k| / (1 + |x^k|) cos(x^k, w_c^k)``.

    The longer an embedding, the surer: ``|x| / (1 + |x|)`` grows from 0 to 1. Liu et al.,
    Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019, with tau = 16; in heads, and
    as a row to compare with, Tang et al. (``_normalised.py``), K = 1 (and 2 in their Table 7).
    """

    options_type = CapsuleOptions

    def __init__(self, options: CapsuleOptions, embedding_dim: int, num_classes: int) -> None:
        super().__init__(
            options, options.capsule_heads, options.capsule_scale, embedding_dim, num_classes
        )

    def normalised_inputs(self, x: Tensor) -> Tensor:
        """Heads [R, K, E/K] of length ``|x| / (1 + |x|)``."""
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / (1 + length)
