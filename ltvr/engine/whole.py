"""What of a step is decided by the labels of its batch alone, alike on every rank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltvr.afa.plan import SynthesisPlan
from ltvr.clock import Clock
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.engine.cut import Cut
from ltvr.losses.base import Divisors, Loss
from ltvr.mixing.base import Mixing, Mixture
from ltvr.stages.base import Classes, Stage

__all__ = ["Part", "Whole"]


class Part(NamedTuple):
    """What one micro-batch takes of it; targets and plan on the host."""

    mixture: Mixture
    plan: SynthesisPlan | None


class Whole(NamedTuple):
    """The mixture and the synthesis plan of a batch, and what its loss divides by."""

    mixture: Mixture
    plan: SynthesisPlan | None
    divisors: Divisors
    real: int
    """Rows of the batch that are not ignored."""
    generated: int
    """Rows that the plan generates."""

    @classmethod
    def decide(
        cls,
        stage: Stage,
        mixing: Mixing | None,
        loss: Loss,
        labels: Tensor,
        clock: Clock,
        cut: Cut,
        classes: Classes,
        size: int,
        device: torch.device,
    ) -> Whole:
        """Draw mixture and plan, tell the loss of the targets, and sum the weights.

        Args:
            mixing: of this epoch; None for nothing.
            loss: on the device.
            labels: [B] of the batch, on the host; of B partners after them where ``mixing`` has
                ``partners``.
            clock: at the start of the step.
            classes: what is known of them.
            size: S, of the images.
            device: where the divisors go.
        """
        mixture = Mixture(stage.targets(labels))
        if mixing is not None:
            random = clock.random("mixing")
            mixture = mixing.draw(Targets(labels), classes.counts, size, random, cut.groups)
            labels = mixture.targets.labels
        plan = stage.plan(labels, clock, cut.groups, classes)
        targets = mixture.targets if plan is None else mixture.targets.augmented(plan)
        targets = targets.to(device)
        loss.begin_step(targets, cut.batch_size)
        if mixing is not None and mixing.partners is not None:
            loss.balance_labels(targets, cut.batch_size)
        divisors = Divisors.of(loss.row_weights(targets), cut.batch_size)
        real = int(mixture.targets.counted.sum())
        return cls(mixture, plan, divisors, real, 0 if plan is None else plan.generated)

    def synthetic_counts(self, classes: int) -> Int64Array:
        """[C] rows that are generated of each class."""
        if self.plan is None:
            return np.zeros(classes, np.int64)
        counts: Int64Array = torch.bincount(self.plan.labels, minlength=classes).numpy()
        return counts

    def part(self, number: int, stage: Stage, cut: Cut, classes: int) -> Part:
        """What part ``number`` of the batch takes of it."""
        mixture, plan = self.mixture.part(number, cut.parts), self.plan
        if plan is not None:
            plan = plan.part(number, cut.parts)
            plan = stage.padded(plan, cut.groups // cut.parts, cut.largest_group, classes)
        return Part(mixture, plan)
