"""Learning rate of a step: linear warm-up, then cosine to 0, or a fall at each milestone."""

from __future__ import annotations

import math

from ltvr.clock import Clock, first_epoch
from ltvr.stages.base import Stage

__all__ = ["cosine", "learning_rate"]


def cosine(step: int, steps: int, warmup: int = 0) -> float:
    """Factor on the base learning rate at ``step`` (from 0) of ``steps``.

    1 at the first step after the warm-up and above 0 at the last: no step is wasted at rate 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def learning_rate(stage: Stage, clock: Clock) -> float:
    """Learning rate of the step that ``clock`` stands at.

    Warm-up and cosine go by the step, milestones by the epoch (``first_epoch``). A warm-up
    by the epoch is lr (e + 1) / W in epoch e < W, as in the code of Cao et al., LDAM, NeurIPS 2019.
    """
    if stage.warmup_by == "epoch" and clock.epoch < stage.warmup_epochs:
        return stage.lr * min(1.0, (clock.epoch + 1) / stage.warmup_epochs)
    steps, warmup = clock.epochs * clock.steps, round(stage.warmup_epochs * clock.steps)
    if stage.milestones and clock.steps_done >= warmup:
        passed = sum(clock.epoch >= first_epoch(m, clock.epochs) for m in stage.milestones)
        return stage.lr * stage.lr_decay**passed
    return stage.lr * cosine(clock.steps_done, steps, warmup)
