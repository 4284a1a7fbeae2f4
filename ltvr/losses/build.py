"""A loss that gives way to another."""

from __future__ import annotations

from torch import Tensor

from ltvr.clock import Clock, first_epoch
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.losses.base import Loss, Outputs

__all__ = ["Deferred"]


class Deferred(Loss):
    """One loss, and from an epoch on another: a balanced one once features are there, say.

    Args:
        first, then: the losses, both of which are trained if they have parameters.
        start: share of the epochs from which on it is ``then``.
        counts: [C] the training images of each class.
    """

    def __init__(self, first: Loss, then: Loss, start: float, counts: Tensor) -> None:
        super().__init__(NoOptions(), counts)
        self.first, self.then, self.start = first, then, start
        self.begun = False
        self.normalise = first.normalise

    @property
    def _now(self) -> Loss:
        return self.then if self.begun else self.first

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Those of the loss of the epoch."""
        return self._now.rows(outputs, labels)

    def rows_weighted(self, outputs: Outputs, labels: Tensor, weights: Tensor) -> Tensor:
        """Those of the loss of the epoch."""
        return self._now.rows_weighted(outputs, labels, weights)

    def weights(self, labels: Tensor) -> Tensor:
        """Those of the loss of the epoch."""
        return self._now.weights(labels)

    def offsets(self, classes: Tensor) -> Tensor:
        """Those of the loss of the epoch."""
        return self._now.offsets(classes)

    def begin_step(self, targets: Targets, real: int) -> None:
        """Tell the loss of the epoch."""
        self._now.begin_step(targets, real)

    def begin_epoch(self, clock: Clock) -> None:
        """Take note of which it is, and tell it."""
        self.begun = clock.epoch >= first_epoch(self.start, clock.epochs)
        self.normalise = self._now.normalise
        self._now.begin_epoch(clock)
