"""The interface of a loss: a value and a weight for each row."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ltvr.clock import Clock
from ltvr.config.options import Options
from ltvr.config.slots import Component
from ltvr.data.targets import Targets

__all__ = ["Divisors", "Loss", "Outputs"]


class Outputs(NamedTuple):
    """What a network makes of a batch: R rows, the real ones before the generated ones."""

    logits: Tensor
    """[R, C]."""
    embeddings: Tensor
    """[R, E], what the classifier reads."""


class Loss(Component, nn.Module):
    """A loss of single-label rows; two labels a row, and ignored rows, are seen to here.

    A subclass states ``rows``. It may own parameters, which are trained with the network's, and
    buffers; both are in the checkpoint.

    Args:
        options: of the class's own ``options_type``.
        counts: [C] int64, the training images of each class.
    """

    of_any_logits: ClassVar[bool] = True
    """False: it takes them for cosines times a factor that is set, and nothing may scale them."""
    normalise: Literal["weights", "batch"] = "weights"
    """What a mean of rows divides by: the sum of their weights, or their number."""

    def __init__(self, options: Options, counts: Tensor) -> None:
        super().__init__()
        self.second: Tensor
        """[] what the weights of second labels are multiplied by; see ``balance_labels``."""
        self.register_buffer("second", torch.ones(()), persistent=False)

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The loss of every row under one label each: [R].

        Args:
            outputs: logits and embeddings in float32.
            labels: [R], each a class; rows that are ignored have class 0 here.
        """
        raise NotImplementedError

    def rows_weighted(self, outputs: Outputs, labels: Tensor, weights: Tensor) -> Tensor:
        """``rows`` where every row will count ``weights`` [R] times: [R].

        For a loss whose own value depends on the weights, too, which multiply it in the mean all
        the same; by default it is ``rows``.
        """
        return self.rows(outputs, labels)

    def weights(self, labels: Tensor) -> Tensor:
        """How much every row counts in a mean, by its label: [R]; by default all alike."""
        return torch.ones_like(labels, dtype=torch.float32)

    def offsets(self, classes: Tensor) -> Tensor:
        """What ``rows`` adds to the logits of ``classes``, and inference does not: by default 0.

        Same shape as ``classes``. ``ltvr.engine.prior`` divides the class frequencies by exp of it.
        """
        return torch.zeros_like(classes, dtype=torch.float32)

    def begin_epoch(self, clock: Clock) -> None:
        """Take note of the epoch, for a loss that changes in training (DRW).

        A run that is resumed within an epoch calls it again, so it may go by ``clock`` alone.
        """

    def begin_step(self, targets: Targets, real: int) -> None:
        """Take note of the targets of all rows of a step, before its first micro-batch.

        For a loss that counts them: ``rows`` sees those of one micro-batch of one rank.

        Args:
            targets: on the device; the first ``real`` are of real rows.
        """

    def balance_labels(self, targets: Targets, real: int) -> None:
        """Let the second labels of a step weigh as much in all as the first.

        So it is where a mean is taken under each, as the code of CMO does. It is called, before the
        first micro-batch, where second labels are of a stream of samples of their own, and so of
        other classes; those of mixup are the first ones in another order.

        Args: as of ``begin_step``.
        """
        self.second.fill_(1.0)
        if targets.other is not None and self.normalise == "weights":
            counted = targets.counted[:real]
            first, other = (
                torch.where(counted, self.weights(labels[:real].clamp_min(0)), 0.0).sum()
                for labels in (targets.labels, targets.other)
            )
            self.second.copy_(torch.where(other > 0, first / other, 1.0))

    def forward(self, outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor]:
        """Loss and weight of every row, [R] each; a mean is the weighted sum over the weights' sum.

        The loss of a row of two labels is the mean of the losses under both, by share and weight.
        """
        labels = targets.labels.clamp_min(0)
        values, (first, second) = self.rows(outputs, labels), self._by_label(targets)
        weights = first
        if targets.other is not None and second is not None:
            weights = first + second
            mixed = first * values + second * self.rows(outputs, targets.other.clamp_min(0))
            values = mixed / torch.where(weights > 0, weights, 1.0)
        for name, found in (("rows", values), ("weights", weights)):
            if found.shape != labels.shape:
                raise TypeError(
                    f"{type(self).__name__}.{name} gave shape {list(found.shape)} for "
                    f"{len(labels)} rows: expected one value a row (reduction='none')"
                )
        if self.normalise == "batch":
            values, weights = values * weights, torch.ones_like(weights)
        counted = targets.counted
        return torch.where(counted, values, 0.0), torch.where(counted, weights, 0.0)

    def row_weights(self, targets: Targets) -> Tensor:
        """The weights that ``forward`` gives the rows of ``targets``, before there are any: [R]."""
        first, second = self._by_label(targets)
        weights = first if second is None else first + second
        if self.normalise == "batch":
            weights = torch.ones_like(weights)
        return torch.where(targets.counted, weights, 0.0)

    def _by_label(self, targets: Targets) -> tuple[Tensor, Tensor | None]:
        """How much every row counts by its first label, and by its second if it has one: [R]."""
        weights = self.weights(targets.labels.clamp_min(0))
        if targets.other is None or targets.share is None:
            return weights, None
        other = self.second * self.weights(targets.other.clamp_min(0))
        return targets.share * weights, (1 - targets.share) * other


class Divisors(NamedTuple):
    """What the means of a step divide by: the weights of its rows, of all micro-batches and ranks.

    They follow from the labels, and so are known before the first micro-batch. As every part
    divides by these sums, the gradients of the parts add up to that of the whole, however many rows
    each part generates.
    """

    real: Tensor
    """[] the sum of the weights of the real rows."""
    every: Tensor
    """[] that of all rows."""
    synthetic: Tensor | None
    """[] that of the generated rows; None where nothing is generated."""

    @classmethod
    def of(cls, weights: Tensor, real: int) -> Divisors:
        """Those of rows whose weights [R] are ``Loss.row_weights``; the first ``real`` are real."""
        generated = weights[real:].sum() if len(weights) > real else None
        return cls(weights[:real].sum(), weights.sum(), generated)
