"""The interface of a classifier: embeddings to logits."""

from __future__ import annotations

from torch import Tensor, nn

from ltvr.clock import Clock
from ltvr.config.slots import Component
from ltvr.data.targets import Targets

__all__ = ["Classifier"]


class Classifier(Component, nn.Module):
    """The last part of the network: embeddings [R, E] to logits [R, C].

    A subclass is made as ``Classifier(options, embedding_dim, num_classes)`` with the options of
    its own ``options_type``, and states ``forward``; parameters and buffers are in the checkpoint.
    ``linear.py`` is a short example.
    """

    def reset_parameters(self) -> None:
        """Start afresh, as the second stage of training does."""
        raise NotImplementedError

    def trained(self) -> list[nn.Parameter]:
        """The parameters that a stage which trains the classifier alone trains: all of them."""
        return list(self.parameters())

    def begin_epoch(self, clock: Clock, lr: float) -> None:
        """Take note of the epoch, as ``ltvr.losses.base.Loss.begin_epoch``.

        What inference reads belongs in a buffer: attributes are in no checkpoint, nor in the
        weight average.

        Args:
            lr: the learning rate of the first step of the epoch.
        """

    def statistics(self) -> list[Tensor]:
        """The buffers that ``observe`` moves; several ranks take the mean of theirs."""
        return []

    def observe(self, embeddings: Tensor, targets: Targets, real: int) -> None:
        """See the embeddings of a micro-batch, detached, after its forward pass.

        For a classifier that keeps statistics of them in its buffers; called in training alone.

        Args:
            embeddings: [R, E], the real rows before the generated ones.
            targets: of the R rows; ``targets.counted`` leaves out those that fill up a plan.
            real: B, the number of real rows.
        """
