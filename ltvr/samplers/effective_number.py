"""Sampling by the effective number of each class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import Sampler, Shares

__all__ = ["ByEffectiveNumber", "EffectiveNumberSamplerOptions"]


@dataclass(frozen=True)
class EffectiveNumberSamplerOptions(Options):
    """Sampling by effective number."""

    effective_number_sampler_beta: float = option(
        0.9999, "0: by instance; towards 1: every class alike", at_least=0, below=1
    )


class ByEffectiveNumber(Sampler):
    """p_k ~ n_k (1 - beta) / (1 - beta^n_k), every sample drawn by itself, with replacement.

    ``ImbalancedDatasetSampler`` in the code of Cao et al., Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss, NeurIPS 2019, behind their "Resample": the class weights
    of Cui et al., CVPR 2019, as weights of the images. On CIFAR-10 at 100 : 1 the largest class
    comes 1.3 times as often as the smallest. The sampler of ufoym, weights 1 / n_k, is
    ``class-aware`` with ``--class-aware-draw multinomial``.
    """

    options_type = EffectiveNumberSamplerOptions

    def __init__(self, options: EffectiveNumberSamplerOptions) -> None:
        super().__init__(options)
        self.beta = options.effective_number_sampler_beta

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """n_k over the effective number of class k, of sum 1."""
        decay = math.log(self.beta) if self.beta else -math.inf
        present = counts > 0
        weights = np.zeros(len(counts))
        # 1 - beta^n to full precision where beta is near 1.
        weights[present] = counts[present] / -np.expm1(counts[present] * decay)
        shares: Shares = weights / weights.sum()
        return shares
