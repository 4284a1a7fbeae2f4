"""The de-confound classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ltvr.classifiers._normalised import Normalised, NormalisedOptions
from ltvr.config.options import option

__all__ = ["DeConfound", "DeConfoundOptions"]


@dataclass(frozen=True)
class DeConfoundOptions(NormalisedOptions):
    """De-confound classifier."""

    de_confound_scale: float = option(16.0, "tau, the factor on the logits", above=0)
    de_confound_heads: int = option(
        2, "K, parts of the embedding with a logit each", at_least=1, architecture=True
    )
    de_confound_gamma: float = option(
        1 / 32, "what is added to the length of a class's weights", at_least=0, architecture=True
    )


class DeConfound(Normalised):
    """``N = |x| (|w| + gamma)``: ``z_c = tau / K sum_k <x^k / |x^k|, w_c^k / (|w_c^k| + gamma)>``.

    Tang et al. (``_normalised.py``), eq. 10: tau = 16, K = 2, gamma = 1/32. With the option ``tde``
    it is their whole method.
    """

    options_type = DeConfoundOptions

    def __init__(self, options: DeConfoundOptions, embedding_dim: int, num_classes: int) -> None:
        super().__init__(
            options,
            options.de_confound_heads,
            options.de_confound_scale,
            embedding_dim,
            num_classes,
        )
        self.gamma = options.de_confound_gamma

    def normalised_weights(self, w: Tensor) -> Tensor:
        """Heads [C, K, E/K] of length ``|w| / (|w| + gamma)``."""
        length: Tensor = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        return w / (length + self.gamma)
