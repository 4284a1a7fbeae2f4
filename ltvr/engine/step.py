"""The forward pass of training: the one module that ``torch.compile`` wraps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ltvr.afa.plan import SynthesisPlan
from ltvr.clock import Clock
from ltvr.data.targets import Targets
from ltvr.losses.base import Loss, Outputs
from ltvr.mixing.base import Blend
from ltvr.networks.network import Network

__all__ = ["Rows", "Step"]


class Rows(NamedTuple):
    """What a micro-batch gives, row by row: R = B + G rows, the B real ones first."""

    values: Tensor
    """[R] loss, in float32."""
    weights: Tensor
    """[R] how much a row counts in a mean; 0 for a row that is ignored."""
    correct: Tensor
    """[R] how much of the row's target is the likeliest class."""
    counted: Tensor
    """[R] bool, the rows that are not ignored."""


class Step(nn.Module):
    """Images, targets and plan to rows of loss.

    Args:
        network: its parameters get gradients where they require them.
        loss: computed in float32, whatever autocast is on.
    """

    def __init__(self, network: Network, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def begin_epoch(self, clock: Clock, lr: float) -> None:
        """Tell the loss and the classifier of a new epoch, before its first micro-batch.

        Args:
            lr: the learning rate of the first step of the epoch.
        """
        self.loss.begin_epoch(clock)
        self.network.classifier.begin_epoch(clock, lr)

    def forward(
        self,
        images: Tensor,
        targets: Targets,
        plan: SynthesisPlan | None,
        blend: Blend | None = None,
    ) -> Rows:
        """The rows of one micro-batch.

        Args:
            images: [B, 3, S, S].
            targets: of the B images, on their device.
            plan: of their labels, on their device; None generates nothing.
            blend: what the network is to mix of them, on their device.
        """
        outputs = self.network.outputs(images, plan, blend)
        if plan is not None:
            targets = targets.augmented(plan)
        self.network.classifier.observe(outputs.embeddings.detach(), targets, len(images))
        with torch.autocast(images.device.type, enabled=False):
            outputs = Outputs(outputs.logits.float(), outputs.embeddings.float())
            values, weights = self.loss(outputs, targets)
            correct = targets.correct(outputs.logits.detach())
        return Rows(values, weights, correct, targets.counted)
