"""Remix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from ltvr.config.options import Options, option
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.mixing.base import Mixing, Mixture
from ltvr.mixing.mixup import Mixup, MixupOptions
from ltvr.samplers.base import Shares

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
    k = 3 and t = 0.5. Where the share of y_i is 0, y_j is put first with the share 1, so that the
    synthesis plan takes the row for one of class y_j, as the loss does.
    """

    options_type = RemixOptions

    def __init__(self, options: RemixOptions) -> None:
        super().__init__(options)
        self.alpha = options.remix_alpha
        self.mixup = Mixup(MixupOptions(mixup_alpha=self.alpha))
        self.k, self.t = options.remix_k, options.remix_t

    def draw(
        self,
        targets: Targets,
        counts: Int64Array,
        size: int,
        random: np.random.Generator,
        groups: int = 1,
    ) -> Mixture:
        """Two labels a row, whose share is each row's own."""
        mixture = self.mixup.draw(targets, counts, size, random, groups)
        labels, other, share = mixture.targets
        assert other is not None and share is not None, "mixup gives both"
        n = torch.from_numpy(counts)
        own, others = n[labels], n[other]
        gives_way = (own >= self.k * others) & (share < self.t)
        takes_all = (others >= self.k * own) & (1 - share < self.t)
        gives_way &= ~takes_all  # both only for k = 1, and classes of the same size
        share = share.masked_fill(gives_way | takes_all, 1.0)
        first, second = torch.where(gives_way, other, labels), torch.where(gives_way, labels, other)
        return mixture._replace(targets=Targets(first, second, share))

    def first_labels(self, own: Shares, partners: Shares, counts: Int64Array) -> Shares:
        """A class is first, too, where a larger one has given way to it."""
        larger, smaller = self._unlike(partners, counts)
        likely = special.betainc(self.alpha, self.alpha, self.t)
        first: Shares = own * (1 + likely * (larger - smaller))
        return first

    def label_shares(
        self, first: Shares, partners: Shares, counts: Int64Array, size: int
    ) -> Shares:
        """By the rule for every pair of classes.

        With F = P(l < t), and h = E[l; l >= t] what a larger class keeps: of n images of a class
        that are mixed with larger ones, n (1 + F) rows have the class first, which has 1 - h + F of
        them; of n with smaller ones n (1 - F), and h; of all others n, and half.
        """
        likely = special.betainc(self.alpha, self.alpha, self.t)
        kept = 0.5 - 0.5 * special.betainc(self.alpha + 1, self.alpha, self.t)
        larger, smaller = self._unlike(partners, counts)
        rows = first / (1 + likely * (larger - smaller))
        own_part = larger * (likely + 1 - kept) + smaller * kept + 0.5 * (1 - larger - smaller)
        above, below = self._unlike(rows, counts)
        rest = rows.sum() - above - below
        given = kept * below + (1 - likely - kept) * above + 0.5 * rest
        shares: Shares = rows * own_part + partners * given
        return shares

    def _unlike(self, weights: Shares, counts: Int64Array) -> tuple[Shares, Shares]:
        """For each class the weights of those that are k times larger, and k times smaller: [C]."""
        order = np.argsort(counts, kind="stable")
        ascending = counts[order]
        up_to = np.concatenate([[0.0], np.cumsum(weights[order])])
        larger = up_to[-1] - up_to[np.searchsorted(ascending, self.k * counts, side="left")]
        smaller = up_to[np.searchsorted(self.k * ascending, counts, side="right")]
        return larger, smaller
