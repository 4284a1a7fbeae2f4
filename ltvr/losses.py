"""The lay-back learning schedule (eq. 12)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ltvr.planning import IGNORED

__all__ = ["LayBackLoss", "generates", "lay_back_loss"]


class LayBackLoss(NamedTuple):
    """The loss to minimise, and the mean cross-entropies it is made of (scalars, detached)."""

    total: Tensor
    real: Tensor
    synthetic: Tensor | None


def generates(epoch: int, start: int) -> bool:
    """Whether epoch (from 0) trains on generated features: L_all from epoch ``start`` on."""
    return epoch >= start


def lay_back_loss(logits: Tensor, labels: Tensor, real: int, weight: float) -> LayBackLoss:
    """L_ori + lambda L_all of one pass of the head over real and generated rows (eq. 12).

    Args:
        logits: [B+G, C], the real rows first.
        labels: [B+G]; rows labelled ``IGNORED`` count in no mean.
        real: B. With no rows after them the loss is L_ori alone, as before epoch t.
        weight: lambda.
    """
    rows = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    original = rows[:real].mean()
    if logits.shape[0] == real:
        return LayBackLoss(original, original.detach(), None)
    counted = labels != IGNORED  # ignored rows have a loss of 0
    synthetic = rows[real:].detach().sum() / counted[real:].sum().clamp_min(1)
    everything = rows.sum() / counted.sum()
    return LayBackLoss(original + weight * everything, original.detach(), synthetic)
