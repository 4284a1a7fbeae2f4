"""Context-rich minority oversampling (CMO)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ltvr.config.options import NoOptions, Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Mixing, Mixture, blended
from ltvr.mixing.cutmix import draw_box, expected_share
from ltvr.samplers.base import Sampler, Shares

__all__ = ["CMO", "CMOOptions"]


@dataclass(frozen=True)
class CMOOptions(Options):
    """CMO."""

    cmo_alpha: float = option(
        1.0, "a, of the Beta(a, a) that the share outside the box is drawn from", above=0
    )
    cmo_probability: float = option(0.5, "how often a batch is mixed", above=0, at_most=1)
    cmo_exponent: float = option(
        1.0,
        "r: an image that is pasted is drawn by the weight 1 / n^r of its class; 1: every class "
        "comes as often, 2: the smaller the more",
        at_least=0,
        at_most=10,
    )
    cmo_plain_first: int = option(4, "epochs at the start without mixing", at_least=0)
    cmo_plain_last: int = option(3, "epochs at the end without mixing", at_least=0)


class CMO(Mixing):
    """A box of an image of a rare class is pasted onto each image of the batch, as in CutMix.

    Park et al., The Majority Can Help The Minority: Context-rich Minority Oversampling for
    Long-tailed Classification, CVPR 2022, as in their code: what is pasted comes from a second
    stream of samples, drawn with replacement by the weights 1 / n_c of their classes (the paper
    writes 1 / n_c for the class as a whole, which is ``cmo_exponent`` 2); half of the batches are
    mixed, in the epochs 3 < e < E - 3. With class weights what is pasted counts by the box alone,
    as in their code, which takes a mean under each of the two labels: ``Loss.balance_labels``.
    """

    options_type = CMOOptions
    plain_options = "--cmo-plain-first or --cmo-plain-last"

    def __init__(self, options: CMOOptions) -> None:
        super().__init__(options)
        self.options = options
        self.partners = _ByWeight(options.cmo_exponent)

    def epochs(self, epochs: int) -> range:
        """Those between the plain ones of the start and of the end."""
        return range(self.options.cmo_plain_first, epochs - self.options.cmo_plain_last)

    def draw(
        self,
        targets: Targets,
        counts: Int64Array,
        size: int,
        random: np.random.Generator,
        groups: int = 1,
    ) -> Mixture:
        """The first half of the samples, with a box of those of the second half, or as it came."""
        labels, other = targets.labels.chunk(2)
        if random.random() >= self.options.cmo_probability:
            return Mixture(Targets(labels))
        box, share = draw_box(size, self.options.cmo_alpha, random)
        shares, partner = torch.full((len(labels),), share), len(labels) + torch.arange(len(labels))
        return Mixture(Targets(labels, other, shares), partner, share, box)

    def label_shares(
        self, first: Shares, partners: Shares, counts: Int64Array, size: int
    ) -> Shares:
        """Those of the partner by the area of the box, in the batches that are mixed."""
        pasted = 1 - expected_share(size, self.options.cmo_alpha)
        return blended(first, partners, self.options.cmo_probability * pasted)


class _ByWeight(Sampler):
    """Every sample by the weight n_c^-r of its class, with replacement: p_c ~ n_c^(1 - r)."""

    def __init__(self, exponent: float) -> None:
        super().__init__(NoOptions())
        self.exponent = exponent

    def shares(self, counts: Int64Array, epoch: int, epochs: int) -> Shares:
        """n_c^(1 - r), of sum 1, for every class that has samples."""
        weights = np.zeros(len(counts))
        present = counts > 0
        weights[present] = (counts[present] / counts.max()) ** (1 - self.exponent)
        shares: Shares = weights / weights.sum()
        return shares
