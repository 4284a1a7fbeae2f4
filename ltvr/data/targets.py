"""What the rows of a batch are to be classified as."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ltvr.afa.plan import IGNORED, SynthesisPlan
from ltvr.transfer import to_device

__all__ = ["Targets"]


class Targets(NamedTuple):
    """One label a row, or two and the share of the first.

    A row whose label is ``ltvr.afa.plan.IGNORED`` counts in no loss.
    """

    labels: Tensor
    """[R] int64."""
    other: Tensor | None = None
    """[R] int64, the second label of each row of a mixed batch; None where rows have one."""
    share: Tensor | None = None
    """[R] float32, how much of a row is ``labels``; the rest is ``other``."""

    def to(self, device: torch.device) -> Targets:
        """Copy to ``device``, without a wait for it."""
        other, share = (None if t is None else to_device(t, device) for t in self[1:])
        return Targets(to_device(self.labels, device), other, share)

    def part(self, number: int, parts: int) -> Targets:
        """Those of every ``parts``-th row from ``number`` on."""
        other, share = (None if t is None else t[number::parts] for t in self[1:])
        return Targets(self.labels[number::parts], other, share)

    def augmented(self, plan: SynthesisPlan) -> Targets:
        """Targets of the rows of this batch and of those that ``plan`` generates from it.

        A generated row is to be classified as the sample that its class part is from.
        """
        labels = torch.cat([self.labels, plan.labels])
        if self.other is None or self.share is None:
            return Targets(labels)
        other = torch.where(
            plan.labels == IGNORED, plan.labels, self.other.index_select(0, plan.class_index)
        )
        share = self.share.index_select(0, plan.class_index)
        return Targets(labels, torch.cat([self.other, other]), torch.cat([self.share, share]))

    @property
    def counted(self) -> Tensor:
        """[R] bool, the rows that are not ignored."""
        return self.labels != IGNORED

    def correct(self, logits: Tensor) -> Tensor:
        """How much of each row's target is the likeliest class of its ``logits``: [R], 0 to 1."""
        predicted = logits.argmax(1)
        hit = (predicted == self.labels).float()
        if self.other is None or self.share is None:
            return hit
        return self.share * hit + (1 - self.share) * (predicted == self.other).float()
