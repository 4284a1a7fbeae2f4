"""CutMix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Box, Mixing, Mixture, blended, partners
from ltvr.samplers.base import Shares

__all__ = ["Cutmix", "CutmixOptions", "draw_box", "expected_share"]


@dataclass(frozen=True)
class CutmixOptions(Options):
    """CutMix."""

    cutmix_alpha: float = option(
        1.0, "a, of the Beta(a, a) that the share outside the box is drawn from", above=0
    )
    cutmix_probability: float = option(
        0.5, "how often a batch is mixed; 1 for ImageNet", above=0, at_most=1
    )


def draw_box(size: int, alpha: float, random: np.random.Generator) -> tuple[Box, float]:
    """A box of an image, and the share of the image that is left outside of it.

    Its sides are sqrt(1 - l) of the image's, l ~ Beta(a, a), rounded down to an even number as in
    the authors' code; its centre is drawn evenly, and what lies outside of the image is cut off.

    Args:
        size: S, of the square image.
        alpha: a.

    Returns:
        the box, and 1 - area / S^2.
    """
    half = int(np.sqrt(1 - random.beta(alpha, alpha)) * size) // 2
    centre = random.integers([size, size])
    (top, left), (bottom, right) = (
        np.clip(edge, 0, size).tolist() for edge in (centre - half, centre + half)
    )
    share = 1 - (bottom - top) * (right - left) / size**2
    return Box(top, bottom, left, right), share


def expected_share(size: int, alpha: float) -> float:
    """The mean of the share that ``draw_box`` gives, of images of ``size`` by ``size``.

    The sum over the lengths of the box's sides before they are cut off, n = 0 ... S in pixels
    before they are made even, of how likely each is times the square of its mean length over all
    centres: the two centres are drawn independently.

    Args:
        alpha: a.
    """
    n, centre = np.arange(size + 1)[:, None], np.arange(size)
    start, end = centre - n // 2, centre + n // 2
    length = (np.clip(end, 0, size) - np.clip(start, 0, size)).mean(1)
    below = special.betainc(alpha, alpha, (np.arange(size + 1) / size) ** 2)  # P(side < n)
    likely = np.diff(below, append=1.0)
    return float(1 - (likely * (length / size) ** 2).sum())


class Cutmix(Mixing):
    """A box of x_i is replaced by that of x_j; the labels share as the areas do.

    One box a batch (``draw_box``). Yun et al., CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features, ICCV 2019; on CIFAR their code mixes half of the batches.
    j is a random permutation of the batch, or of each of its groups.
    """

    options_type = CutmixOptions

    def __init__(self, options: CutmixOptions) -> None:
        super().__init__(options)
        self.alpha, self.probability = options.cutmix_alpha, options.cutmix_probability

    def draw(
        self,
        targets: Targets,
        counts: Int64Array,
        size: int,
        random: np.random.Generator,
        groups: int = 1,
    ) -> Mixture:
        """Two labels a row, one share and one box; or the batch as it came."""
        if random.random() >= self.probability:
            return Mixture(targets)
        box, share = draw_box(size, self.alpha, random)
        labels = targets.labels
        partner = partners(len(labels), groups, random)
        shares = torch.full((len(labels),), share)
        return Mixture(Targets(labels, labels[partner], shares), partner, share, box)

    def label_shares(
        self, first: Shares, partners: Shares, counts: Int64Array, size: int
    ) -> Shares:
        """Those of the partner by the area of the box, in the batches that are mixed."""
        pasted = self.probability * (1 - expected_share(size, self.alpha))
        return blended(first, partners, pasted)
