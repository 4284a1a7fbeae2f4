"""Manifold mixup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.errors import UserError
from ltvr.mixing.base import Mixing, Mixture, partners

__all__ = ["ManifoldMixup", "ManifoldMixupOptions"]


@dataclass(frozen=True)
class ManifoldMixupOptions(Options):
    """Manifold mixup."""

    manifold_mixup_alpha: float = option(
        1.0, "a, of the Beta(a, a) that the share is drawn from", above=0
    )
    manifold_mixup_stages: int = option(
        2, "how many stages of the network, from the first, maps may be mixed after", at_least=1
    )


class ManifoldMixup(Mixing):
    """Mixup of the images or of the maps after a stage, whichever is drawn for the batch.

    Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, ICML 2019:
    one l ~ Beta(a, a) and one k a batch, k drawn evenly from the images and the first stages, 0 to
    2 as in their code of residual networks; l x_i + (1 - l) x_j is what goes on, and the loss is
    mixed likewise. Their code takes a = 2 on CIFAR, BagofTricks-LT a = 1 and one layer alone. j is
    a random permutation of the batch, or of each of its groups. Maps are mixed before the
    decomposition, so that samples are generated from what was mixed, as they are with mixup.
    """

    options_type = ManifoldMixupOptions

    def __init__(self, options: ManifoldMixupOptions) -> None:
        super().__init__(options)
        self.alpha, self.stages = options.manifold_mixup_alpha, options.manifold_mixup_stages

    def check(self, stages: Sequence[str]) -> None:
        """Refuse a network with fewer stages before its decomposition."""
        if self.stages > len(stages):
            raise UserError(
                f"manifold_mixup_stages = {self.stages}: expected at most {len(stages)}, for maps "
                f"are mixed up to the decomposition ({', '.join(stages)}); lower it, or "
                "--insert-after a later stage"
            )

    def draw(
        self,
        targets: Targets,
        counts: Int64Array,
        size: int,
        random: np.random.Generator,
        groups: int = 1,
    ) -> Mixture:
        """Two labels a row, one share, and the stage: of the images, or of the network."""
        share, labels = float(random.beta(self.alpha, self.alpha)), targets.labels
        partner = partners(len(labels), groups, random)
        shares = torch.full((len(labels),), share)
        after = int(random.integers(self.stages + 1))
        return Mixture(Targets(labels, labels[partner], shares), partner, share, after=after)
