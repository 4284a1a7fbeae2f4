"""Remix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Mixed, Mixing
from ltvr.mixing.mixup import Mixup, MixupOptions

__all__ = ["Remix", "RemixOptions"]


@dataclass(frozen=True)
class RemixOptions(Options):
    """Remix."""

    remix_alpha: float = option(1.0, "a, of the Beta(a, a) that the share is drawn from", above=0)
    remix_k: float = option(
        3.0, "how many times the images of the other class make a class the larger one", at_least=1
    )
    remix_t: float = option(
        0.5, "share of an image below which its larger class gives way", at_least=0, at_most=1
    )


class Remix(Mixing):
    """Images as in mixup; the label is the smaller class's alone where the larger has little share.

    Of l x_i + (1 - l) x_j the share of y_i is 0 if n_i / n_j >= k and l < t, 1 if n_j / n_i >= k
    and 1 - l < t, and else l. Chou et al., Remix: Rebalanced Mixup, ECCV 2020 workshops, with their
    k = 3 and t = 0.5. A row whose label is all y_j has it first, with the share 1: it is a sample
    of that class in the synthesis plan, as in the loss.
    """

    options_type = RemixOptions

    def __init__(self, options: RemixOptions) -> None:
        super().__init__(options)
        self.mixup = Mixup(MixupOptions(mixup_alpha=options.remix_alpha))
        self.k, self.t = options.remix_k, options.remix_t

    def mix(
        self, images: Tensor, targets: Targets, counts: Int64Array, random: np.random.Generator
    ) -> Mixed:
        """Mixed images and targets of two labels, whose share is each row's own."""
        mixed, (labels, other, share), _ = self.mixup.mix(images, targets, counts, random)
        assert other is not None and share is not None, "mixup gives both"
        n = torch.from_numpy(counts)
        own, others = n[labels], n[other]
        gives_way = (own >= self.k * others) & (share < self.t)
        takes_all = (others >= self.k * own) & (1 - share < self.t)
        gives_way &= ~takes_all  # both only for k = 1, and classes of the same size
        share = share.masked_fill(gives_way | takes_all, 1.0)
        first, second = torch.where(gives_way, other, labels), torch.where(gives_way, labels, other)
        return Mixed(mixed, Targets(first, second, share))
