"""Progressively balanced sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.samplers.base import ByClass, Sampler, Shares, draw_classes

__all__ = ["Progressive", "ProgressiveOptions"]


@dataclass(frozen=True)
class ProgressiveOptions(Options):
    """Progressively balanced sampling."""

    progressive_draw: Literal["multinomial", "cycles"] = option(
        "multinomial", "the images of a class with replacement, or in shuffled cycles"
    )


class Progressive(Sampler):
    """p_k = (1 - l) n_k/N + l/C with l = e/(E - 1): the last epoch is balanced.

    Kang et al., Decoupling Representation and Classifier, ICLR 2020, as in their code; their
    formula is written with t/T, and ltvr 0.1 had e/E, whose last epoch falls short of balance. An
    only epoch has l = 0. Their code takes the samples of a class in shuffled ``cycles``, which go
    on from epoch to epoch and begin anew with each here; other codes (BagofTricks-LT) and ours by
    default draw with replacement.
    """

    options_type = ProgressiveOptions

    def __init__(self, options: ProgressiveOptions) -> None:
        super().__init__(options)
        self.cycles = options.progressive_draw == "cycles"

    def order(self, labels: Int64Array, seed: int, epoch: int, epochs: int) -> Int64Array:
        """As many draws as there are samples."""
        by_class, random = ByClass.of(labels), np.random.default_rng([seed, epoch])
        shares = self.shares(by_class.counts, epoch, epochs)
        return draw_classes(by_class, shares, random, self.cycles)

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """The mixture of epoch e."""
        share, present = epoch / max(1, epochs - 1), counts > 0
        p: Shares = (1 - share) * counts / counts.sum() + share / present.sum() * present
        return p
