"""Everything that changes while a stage trains, and what its checkpoints hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ltvr import distributed
from ltvr.clock import Clock
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.engine.step import Step
from ltvr.engine.totals import EpochTotals
from ltvr.networks.batchnorm import moving_statistics
from ltvr.networks.network import Network
from ltvr.runs.checkpoint import Foreign, load_weights
from ltvr.stages.base import Stage
from ltvr.stages.options import TrainingOptions

__all__ = ["StageState"]


class StageState:
    """Network, loss, optimizer, scaler, weight average and clock of a stage in training.

    ``state_dict`` is what ``last.pt`` holds: with it, training goes on to the bit.

    Args:
        step: network and loss.
        stage: says what the optimizer updates.
        clock: at the start of the stage.
        classes: C, the number of classes.
    """

    def __init__(
        self, step: Step, stage: Stage, config: Config, clock: Clock, classes: int
    ) -> None:
        options = config.of(TrainingOptions)
        self.step, self.clock, self.classes = step, clock, classes
        self.device = next(step.network.parameters()).device
        self.optimizer: torch.optim.SGD | None = None  # a stage without epochs may train nothing
        groups = [g for g in stage.parameter_groups(step.network, step.loss) if g.parameters]
        self._lr_factors = [group.lr_factor for group in groups]
        if groups:
            self.optimizer = torch.optim.SGD(
                [{"params": group.parameters} for group in groups],
                lr=stage.lr,
                momentum=options.momentum,
                weight_decay=options.weight_decay,
                nesterov=options.nesterov,
            )
        fp16 = config.of(RunOptions).amp == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.average: AveragedModel | None = None
        if options.ema:
            average = get_ema_multi_avg_fn(options.ema)
            self.average = AveragedModel(step.network, multi_avg_fn=average, use_buffers=True)
        self.best = -1.0
        """Accuracy of the best epoch so far, in percent."""
        self.totals = EpochTotals(self.device, classes)
        self.confusions: Tensor | None = None
        """[C, C], of ``ltvr.stages.base.Classes``."""

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated: the weight average, where there is one."""
        return self.step.network if self.average is None else cast(Network, self.average.module)

    def update(self, lr: float) -> None:
        """Take a step of the optimizer at learning rate ``lr``, and clear the gradients.

        Args:
            lr: of the stage; every group of parameters has its own factor on it.
        """
        assert self.optimizer is not None, "a stage that has epochs trains something"
        for group, factor in zip(self.optimizer.param_groups, self._lr_factors, strict=True):
            group["lr"] = lr * factor
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._average_statistics()
        if self.average is not None:
            self.average.update_parameters(self.step.network)
        self.clock = replace(self.clock, step=self.clock.step + 1, micro_batch=0)

    def _average_statistics(self) -> None:
        """Give every rank the mean of what the ranks have seen of a step, each of its own part.

        Running statistics are linear in those of the batches: the mean of the ranks' is the moving
        average of the mean. So all ranks are always alike, and any of them can be saved.
        """
        if distributed.ranks() == 1:
            return
        moved = moving_statistics(self.step.network) + self.step.network.classifier.statistics()
        if not moved:
            return
        flat = distributed.sum_over_ranks(torch.cat([each.flatten() for each in moved]))
        flat /= distributed.ranks()
        for each, mean in zip(moved, flat.split([each.numel() for each in moved]), strict=True):
            each.copy_(mean.view_as(each))

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.clock = replace(self.clock, epoch=self.clock.epoch + 1, step=0)
        self.totals = EpochTotals(self.device, self.classes)

    def state_dict(self) -> dict[str, Any]:
        """Everything. What a step draws follows from the clock."""
        return {
            "model": self.step.network.state_dict(),
            "loss": self.step.loss.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer is not None else None,
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "stage": self.clock.stage,
            "epoch": self.clock.epoch,
            "step": self.clock.step,
            "best": self.best,
            "totals": self.totals.state_dict(),
            "confusions": self.confusions,
        }

    def load_state_dict(self, state: dict[str, Any], source: Path) -> None:
        """Take the state of a checkpoint read from ``source``.

        Raises:
            Foreign: weights of another architecture, or another part that does not fit.
        """
        load_weights(self.step.network, state["model"], source)
        load_weights(self.step.loss, state["loss"], source)
        epochs, steps = self.clock.epochs, self.clock.steps
        for name, most in (("epoch", epochs), ("step", steps)):
            if not 0 <= state[name] <= most:
                raise Foreign(
                    f"{source}: {name} = {state[name]}: expected 0 to {most}; the run's "
                    "config.yaml is of another schedule"
                )
        self.clock = replace(self.clock, epoch=state["epoch"], step=state["step"])
        self.best = state["best"]
        self.confusions = state.get("confusions")
        parts: dict[str, Callable[[Any], Any]] = {
            "scaler": self.scaler.load_state_dict,
            "totals": self.totals.load_state_dict,
        }
        if self.optimizer is not None:
            parts["optimizer"] = self.optimizer.load_state_dict
        if self.average is not None:
            parts["average"] = self.average.load_state_dict
        for name, load in parts.items():
            try:
                load(state[name])
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as e:
                reason = " ".join(str(e).split()) or type(e).__name__
                raise Foreign(f"{source}: {name} is not of this run ({reason})") from None
