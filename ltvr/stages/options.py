"""Options that all stages of training share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ltvr.config.options import Options, option
from ltvr.errors import UserError
from ltvr.stages import STAGES

__all__ = ["TrainingOptions"]


@dataclass(frozen=True)
class TrainingOptions(Options):
    """Training, all stages."""

    stages: tuple[str, ...] = option(("features", "crt"), "what is trained, in order", slot=STAGES)
    batch_size: int = option(
        512, "images a step, in all; of --accumulate micro-batches", at_least=1
    )
    accumulate: int = option(1, "micro-batches a step, of every rank", at_least=1)
    synthesis_group: int = option(
        32,
        "images that are planned for synthesis together, and mixed with each other: a batch is cut "
        "into such groups, or slightly smaller ones of the same size",
        at_least=2,
    )
    lr_batch: int = option(
        512, "learning rates are scaled by batch_size / lr_batch; 0: not scaled", at_least=0
    )
    momentum: float = option(0.9, "of SGD", at_least=0)
    nesterov: bool = option(False, "Nesterov's form of the momentum", idle={"momentum": 0.0})
    weight_decay: float = option(5e-4, "of SGD", at_least=0)
    ema: float = option(
        0.0, "decay of the weight average that is evaluated; 0: none", at_least=0, below=1
    )
    select: Literal["last", "best"] = option(
        "last", "reported epoch; best is by validation split, or by test set and says so"
    )

    def check(self, config: Any) -> None:
        """Refuse a stage twice, micro-batches that no batch can have, and a form of no momentum."""
        if self.nesterov and not self.momentum:
            raise UserError("nesterov: there is no momentum; set --momentum, or say --no-nesterov")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"batch_size = {self.batch_size}: expected a multiple of accumulate = "
                f"{self.accumulate}; batch_size is the total of a step"
            )
        if len(set(self.stages)) < len(self.stages) or not self.stages:
            raise UserError(f"stages = {' '.join(self.stages)}: expected at least one, each once")

    @property
    def groups(self) -> int:
        """Groups that a batch is cut into."""
        return -(-self.batch_size // self.synthesis_group)

    def scaled_lr(self, lr: float) -> float:
        """Learning rate of a step of ``batch_size`` images (the field's linear rule)."""
        return lr * self.batch_size / self.lr_batch if self.lr_batch else lr
