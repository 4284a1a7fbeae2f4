"""cRT on generated samples: class parts of class-balanced images, variation of the usual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ltvr.afa.plan import IGNORED, SynthesisPlan
from ltvr.afa.planning import plan_synthesis
from ltvr.clock import Clock, stream
from ltvr.config.config import Config
from ltvr.config.options import Options, option
from ltvr.data.targets import Targets
from ltvr.errors import UserError
from ltvr.losses import LOSSES
from ltvr.losses.base import Divisors, Loss
from ltvr.networks.network import Network
from ltvr.networks.options import NetworkOptions
from ltvr.samplers import SAMPLERS
from ltvr.samplers.base import Shares
from ltvr.samplers.build import Halves
from ltvr.stages.base import (
    Classes,
    ParameterGroup,
    Stage,
    StageLoss,
    part_of_mean,
    train_classifier_alone,
)
from ltvr.stages.options import TrainingOptions

__all__ = ["Generative", "GenerativeOptions"]


@dataclass(frozen=True)
class GenerativeOptions(Options):
    """Stage 2, cRT with generation."""

    generative_epochs: int = option(10, "epochs of this stage", at_least=1)
    generative_lr: float = option(0.2, "learning rate at --lr-batch images a step", at_least=0)
    generative_gamma: float = option(
        1.0, "generated samples per class-balanced one", above=0, at_most=100
    )
    generative_real: bool = option(True, "whether the class-balanced samples count themselves")
    generative_trains: Literal["classifier", "embedder"] = option(
        "classifier",
        "the classifier alone, or what is behind the decomposition as well (the last stage)",
    )
    generative_embedder_factor: float = option(
        0.1,
        "factor on the learning rate for what is not the classifier",
        at_least=0,
        at_most=1,
        idle={"generative_trains": "classifier"},
    )
    generative_sampler: str = option(
        "class-aware", "how often each class comes among what is to be classified", slot=SAMPLERS
    )
    generative_donors: str = option(
        "instance", "how often each class comes among those that give X_var", slot=SAMPLERS
    )
    generative_loss: str = option("cross-entropy", "loss of every row", slot=LOSSES)
    generative_batchnorm: Literal["train", "eval"] = option(
        "train", "BatchNorm of what is frozen: batch statistics, or frozen ones"
    )
    generative_init: Literal["fresh", "keep"] = option("fresh", "start of the classifier")

    def check(self, config: Any) -> None:
        """Refuse a network without the two parts, and batches that are not two halves."""
        if config.of(NetworkOptions).decomposition == "none":
            raise UserError(
                "stages = generative: samples are generated from the parts of a decomposition, and "
                "this network has none; choose a method that has one, as ltvr, or leave the stage "
                "out"
            )
        training = config.of(TrainingOptions)
        if training.batch_size % (2 * training.groups):
            raise UserError(
                f"batch_size = {training.batch_size}: the stage generative takes two halves of "
                f"each of {training.groups} groups; expected a multiple of {2 * training.groups}"
            )


class Generative(Stage):
    """X_class of a class-balanced image and X_var of one sampled as they come, under the former.

    Half of a batch is class-balanced and is what is classified; the other half, sampled by
    ``generative_donors`` (as images come), gives variation alone and counts in no loss. As in H2T
    (Li et al., Feature Fusion from Head to Tail for Long-Tailed Visual Recognition, AAAI 2024),
    which has its stage 2 on features of the one stream with a part of the other's, with the
    decomposition in the place of a random choice of channels.

    Args:
        config: of the run.
    """

    options_type = GenerativeOptions
    title = "cRT with generation"
    lr_flag = "--generative-lr"
    needs_trained = True
    generates = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.options = config.of(GenerativeOptions)
        self.epochs, self.loss = self.options.generative_epochs, self.options.generative_loss
        training = config.of(TrainingOptions)
        self.lr = training.scaled_lr(self.options.generative_lr)
        self.sampler = Halves(
            SAMPLERS.build(config, self.options.generative_sampler),
            SAMPLERS.build(config, self.options.generative_donors),
            training.batch_size // 2,
        )

    @property
    def _trains_embedder(self) -> bool:
        return self.options.generative_trains == "embedder"

    def prepare(self, network: Network, seed: int) -> None:
        """Freeze all that does not train, and draw the classifier anew unless it is kept."""
        train_classifier_alone(network, seed if self.options.generative_init == "fresh" else None)
        network.embedder.requires_grad_(self._trains_embedder)

    def train_mode(self, network: Network) -> None:
        """What is frozen as ``generative_batchnorm`` says; the rest trains."""
        network.train(self.options.generative_batchnorm == "train")
        network.classifier.train()
        if self._trains_embedder:
            network.embedder.train()

    def parameter_groups(self, network: Network, loss: Loss) -> list[ParameterGroup]:
        """The classifier at the stage's rate, what is before it at a part of that."""
        slow = {id(p) for p in network.embedder.parameters() if p.requires_grad}
        every = self.parameters(network, loss)
        return [
            ParameterGroup([p for p in every if id(p) not in slow]),
            ParameterGroup(
                [p for p in every if id(p) in slow], self.options.generative_embedder_factor
            ),
        ]

    def targets(self, labels: Tensor) -> Targets:
        """Those of the class-balanced half; the others are to be classified as nothing."""
        half = len(labels) // 2
        counted = labels.clone()
        counted[half:] = IGNORED
        if not self.options.generative_real:
            counted[:half] = IGNORED
        return Targets(counted)

    def plan(
        self, labels: Tensor, clock: Clock, groups: int, classes: Classes
    ) -> SynthesisPlan | None:
        """i from the first half of each group, every sample as often, and j from the second."""
        number, half = len(classes.counts), len(labels) // 2
        donors = labels + number * (torch.arange(len(labels)) >= half)
        first = (torch.arange(2 * number) < number).double()
        return plan_synthesis(
            donors,
            gamma=self.options.generative_gamma / 2,
            seed=stream(clock.seed, clock.stage),  # its steps begin at 0, as those of stage 1 did
            step=clock.steps_done,
            groups=groups,
            class_weights=first,
            donor_weights=1 - first,
        )

    def total(self, values: Tensor, weights: Tensor, real: int, of: Divisors) -> StageLoss:
        """The mean of all rows that count, sampled and generated."""
        mean = part_of_mean(values, weights, of.every)
        original = part_of_mean(values[:real].detach(), weights[:real], of.real)
        if of.synthetic is None:
            return StageLoss(mean, original, None)
        synthetic = part_of_mean(values[real:].detach(), weights[real:], of.synthetic)
        return StageLoss(mean, original, synthetic)

    def class_shares(
        self, real: Shares, generated: Shares, of: tuple[float, float] | None = None
    ) -> Shares:
        """Half of what is sampled counts, or nothing of it, and all that is generated."""
        total = (0.5 * real if self.options.generative_real else 0 * real) + generated
        shares: Shares = total / total.sum()
        return shares
