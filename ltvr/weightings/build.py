"""A loss under weights of the classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ltvr.clock import Clock, first_epoch
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.losses.base import Loss, Outputs

__all__ = ["Weighted"]


class Weighted(Loss):
    """Any loss, its rows weighted by class from an epoch on: deferred re-weighting (DRW).

    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS
    2019, algorithm 1, with the start as a share of the epochs (0.8: epoch 160 of 200).

    Args:
        loss: whatever it is; its own weights count as well.
        by_class: [C] the weight of each class.
        start: share of the epochs from which on the weights count; before, the loss is as it is.
        normalise: what a mean divides by, ``Loss.normalise``.
    """

    def __init__(
        self, loss: Loss, by_class: Tensor, start: float, normalise: Literal["weights", "batch"]
    ) -> None:
        super().__init__(NoOptions(), by_class)
        self.loss, self.start, self.normalise = loss, start, normalise
        self.begun = False
        self.by_class: Tensor
        self.register_buffer("by_class", by_class.float(), persistent=False)

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Those of the loss, which may read the weights: [R]."""
        if not self.begun:
            return self.loss.rows(outputs, labels)
        return self.loss.rows_weighted(outputs, labels, self.by_class[labels])

    def weights(self, labels: Tensor) -> Tensor:
        """Those of the loss, times the weight of the class once that counts: [R]."""
        own = self.loss.weights(labels)
        return own * self.by_class[labels] if self.begun else own

    def offsets(self, classes: Tensor) -> Tensor:
        """Those of the loss."""
        return self.loss.offsets(classes)

    def begin_step(self, targets: Targets, real: int) -> None:
        """Tell the loss."""
        self.loss.begin_step(targets, real)

    def begin_epoch(self, clock: Clock) -> None:
        """Take note of whether the weights count."""
        self.loss.begin_epoch(clock)
        self.begun = clock.epoch >= first_epoch(self.start, clock.epochs)
