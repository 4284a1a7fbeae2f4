"""CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from scipy import special
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Mixed, Mixing, blended
from ltvr.samplers.base import Shares
from ltvr.transfer import to_device

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


Box = tuple[EllipsisType, slice, slice]


def draw_box(
    height: int, width: int, alpha: float, random: np.random.Generator
) -> tuple[Box, float]:
    """A box of an image, and the share of the image that is left outside of it.

    Its sides are sqrt(1 - l) of the image's, l ~ Beta(a, a), its centre is drawn evenly, and what
    lies outside of the image is cut off.

    Args:
        alpha: a.

    Returns:
        what indexes [B, 3, height, width], and 1 - area / (height * width).
    """
    side = np.sqrt(1 - random.beta(alpha, alpha))
    size = np.array([height, width])
    corner = random.integers(size) - (side * size).astype(np.int64) // 2
    (top, left), (bottom, right) = (
        np.clip(edge, 0, size).tolist()
        for edge in (corner, corner + (side * size).astype(np.int64))
    )
    share = 1 - (bottom - top) * (right - left) / float(size.prod())
    return (..., slice(top, bottom), slice(left, right)), share


def expected_share(size: int, alpha: float) -> float:
    """The mean of the share that ``draw_box`` gives, of images of ``size`` by ``size``.

    The sum over the lengths of the box's sides before they are cut off, n = 0 ... S in pixels, of
    how likely each is times the square of its mean length over all centres: the two centres are
    drawn independently.

    Args:
        alpha: a.
    """
    n, centre = np.arange(size + 1)[:, None], np.arange(size)
    start = centre - n // 2
    length = (np.clip(start + n, 0, size) - np.clip(start, 0, size)).mean(1)
    below = special.betainc(alpha, alpha, (np.arange(size + 1) / size) ** 2)  # P(side < n)
    likely = np.diff(below, append=1.0)
    return float(1 - (likely * (length / size) ** 2).sum())


class Cutmix(Mixing):
    """A box of x_i is replaced by that of x_j; the labels share as the areas do.

    One box a batch (``draw_box``). Yun et al., CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features, ICCV 2019; on CIFAR their code mixes half of the batches.
    j is a random permutation of the batch.
    """

    options_type = CutmixOptions

    def __init__(self, options: CutmixOptions) -> None:
        super().__init__(options)
        self.alpha, self.probability = options.cutmix_alpha, options.cutmix_probability

    def mix(
        self, images: Tensor, targets: Targets, counts: Int64Array, random: np.random.Generator
    ) -> Mixed:
        """Mixed images and targets of two labels; or the batch as it came."""
        if random.random() >= self.probability:
            return Mixed(images, targets)
        box, share = draw_box(images.shape[2], images.shape[3], self.alpha, random)
        partner = torch.from_numpy(random.permutation(len(images)))
        mixed = images.clone()
        mixed[box] = images[box][to_device(partner, images.device)]
        shares = torch.full((len(images),), share)
        return Mixed(mixed, Targets(targets.labels, targets.labels[partner], shares))

    def label_shares(
        self, first: Shares, own: Shares, partners: Shares, counts: Int64Array, size: int
    ) -> Shares:
        """Those of the partner by the area of the box, in the batches that are mixed."""
        pasted = self.probability * (1 - expected_share(size, self.alpha))
        return blended(first, partners, pasted)
