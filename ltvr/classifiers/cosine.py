"""The cosine classifier."""

from __future__ import annotations

from dataclasses import dataclass

from ltvr.classifiers._normalised import Normalised, NormalisedOptions
from ltvr.config.options import option

__all__ = ["Cosine", "CosineOptions"]


@dataclass(frozen=True)
class CosineOptions(NormalisedOptions):
    """Cosine classifier."""

    cosine_scale: float = option(16.0, "tau, the factor on the cosines", above=0)
    cosine_heads: int = option(
        1, "K, parts of the embedding with a cosine each", at_least=1, architecture=True
    )


class Cosine(Normalised):
    """``N = |x| |w|``: ``z_c = tau / K sum_k cos(x^k, w_c^k)``.

    The length of a class's weights decides nothing. Tang et al. (``_normalised.py``) compare with
    it: tau = 16, K = 1 (and 2 in their Table 7).
    """

    options_type = CosineOptions

    def __init__(self, options: CosineOptions, embedding_dim: int, num_classes: int) -> None:
        super().__init__(
            options, options.cosine_heads, options.cosine_scale, embedding_dim, num_classes
        )
