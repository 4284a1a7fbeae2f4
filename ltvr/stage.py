"""A stage of training: its settings, and everything that changes while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ltvr.checkpoint import load_weights
from ltvr.config import Config
from ltvr.schedule import cosine
from ltvr.totals import EpochTotals

__all__ = ["Stage", "StageState"]


@dataclass(frozen=True)
class Stage:
    """What differs between stage 1 (features) and stage 2 (cRT)."""

    number: int
    epochs: int
    lr: float
    sampler: str
    warmup_epochs: float

    @classmethod
    def of(cls, config: Config, number: int) -> Stage:
        """Read the settings of stage 1 or 2."""
        if number == 1:
            lr = config.scaled_lr(config.lr)
            return cls(1, config.epochs, lr, config.sampler, config.warmup_epochs)
        return cls(2, config.crt_epochs, config.scaled_lr(config.crt_lr), config.crt_sampler, 0.0)

    def lr_at(self, update: int, updates_per_epoch: int) -> float:
        """Learning rate of the ``update``-th step of the optimizer (from 0)."""
        warmup = round(self.warmup_epochs * updates_per_epoch)
        return self.lr * cosine(update, self.epochs * updates_per_epoch, warmup)


class StageState:
    """Model, optimizer, scaler, weight average and position of a stage in training.

    ``state_dict`` is what ``last.pt`` holds: with it, training goes on to the bit.
    """

    def __init__(self, model: nn.Module, stage: Stage, config: Config, classes: int) -> None:
        self.model, self.stage = model, stage
        trained = [p for p in model.parameters() if p.requires_grad]
        self.device = trained[0].device
        self.optimizer = torch.optim.SGD(
            trained, lr=stage.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.average: AveragedModel | None = None
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)
            self.average = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self.epoch = 0
        """Epochs done."""
        self.step = 0
        """Micro-batches done of the epoch after them."""
        self.best = -1.0
        self.classes = classes
        self.totals = EpochTotals(self.device, classes)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that count: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    def update(self, lr: float) -> None:
        """Step the optimizer at learning rate ``lr`` and clear the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.totals = EpochTotals(self.device, self.classes)

    def state_dict(self) -> dict[str, Any]:
        """Everything, generators of random numbers included."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "stage": self.stage.number,
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "totals": self.totals.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any], source: Path) -> None:
        """Take the state of a checkpoint read from ``source``.

        Raises:
            UserError: weights of another architecture.
        """
        load_weights(self.model, state["model"], source)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.totals.load_state_dict(state["totals"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"])
