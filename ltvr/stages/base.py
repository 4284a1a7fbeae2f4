"""The interface of a stage of training: what trains, on what, by which loss, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ltvr.afa.plan import SynthesisPlan
from ltvr.afa.rarity import confused_donors
from ltvr.clock import Clock
from ltvr.config.config import Config
from ltvr.config.slots import Component
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.errors import UserError
from ltvr.losses import LOSSES
from ltvr.losses.base import Divisors, Loss
from ltvr.mixing.base import Mixing
from ltvr.networks.network import Network
from ltvr.samplers.base import Sampler, Shares

if TYPE_CHECKING:
    from ltvr.data.batches import Batches

__all__ = [
    "Classes",
    "ClassifierStage",
    "ParameterGroup",
    "Stage",
    "StageLoss",
    "part_of_mean",
    "refuse_loss_of_cosines",
    "train_classifier_alone",
]


class ParameterGroup(NamedTuple):
    """Parameters that the optimizer updates at one learning rate."""

    parameters: list[nn.Parameter]
    lr_factor: float = 1.0
    """Factor on the learning rate of the stage, at every step."""


class StageLoss(NamedTuple):
    """The loss to minimise, and the mean losses of its real and generated rows (detached).

    Of a part of a step, what that adds to each of them: they are sums over the parts.
    """

    total: Tensor
    real: Tensor
    synthetic: Tensor | None
    """None where nothing was generated."""


@dataclass(frozen=True)
class Classes:
    """What is known of the C classes while a stage trains."""

    counts: Int64Array
    """[C] training images of each."""
    confusions: Tensor | None = None
    """[C, C] float64 on the host, the mean probabilities that the network gave the training images
    of each class when they were first needed; None before."""

    @cached_property
    def confused_donors(self) -> Tensor:
        """``ltvr.afa.rarity.confused_donors`` of the confusions, made once: [C, C] float64."""
        assert self.confusions is not None, "Stage.needs_confusions asks for them"
        return confused_donors(self.confusions)


class Stage(Component):
    """One stage: the settings that the trainer reads, and what it asks the stage to do.

    A subclass sets the attributes below from the options of its own ``options_type``, and
    overrides the methods that differ. A stage is a pure function of its configuration: what
    changes in training is in the network, the loss and ``ltvr.engine.state``.

    Args:
        config: of the run.
    """

    title: ClassVar[str]
    """What tables and figures call it."""
    needs_trained: ClassVar[bool] = False
    """Whether it starts from features that an earlier stage has trained."""
    replaces_classifier: ClassVar[bool] = False
    """Whether another classifier is in the place of the network's own from then on."""

    epochs: int
    lr: float
    """Learning rate of the first step after the warm-up, for the batch size of the run."""
    warmup_epochs: float = 0.0
    warmup_by: Literal["step", "epoch"] = "step"
    milestones: tuple[float, ...] = ()
    """Shares of the epochs at which the learning rate falls by ``lr_decay``; none: cosine to 0."""
    lr_decay: float = 1.0
    sampler: Sampler
    loss: str
    """A name of ``ltvr.losses``."""
    mixing: Mixing | None = None
    generates: bool = False
    """Whether samples are generated in any of its epochs."""
    lr_flag: ClassVar[str]
    """The option that sets ``lr``, for the error of a diverged run."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def in_groups(self) -> bool:
        """Whether samples of a batch meet, so that a micro-batch has to hold whole groups."""
        within = self.mixing is not None and self.mixing.partners is None
        return self.generates or within

    def build_loss(self, counts: Tensor) -> Loss:
        """Make the loss, which may have state and so is not the stage's own.

        Args:
            counts: [C] int64, the training images of each class.
        """
        return LOSSES.build(self.config, self.loss, counts)

    def training_loss(self, network: Network, counts: Tensor) -> Loss:
        """What ``network`` is trained by: the loss, and what the stage adds that reads the network.

        Args:
            network: prepared, on its device.
            counts: as for ``build_loss``.
        """
        return self.build_loss(counts)

    def prepare(self, network: Network, seed: int) -> None:
        """Mark the parameters that train, and draw those anew that are to start afresh.

        Where weights are to be loaded it is called for the earlier stages as well, without their
        data.

        Args:
            seed: of the stage's own stream of random numbers.
        """
        network.requires_grad_(True)

    def begin(self, network: Network, batches: Batches) -> None:
        """Set what the stage starts with that is computed from images, once, after ``prepare``.

        A run that is resumed within the stage has it from its checkpoint.

        Args:
            batches: of the training split; a pure function of them and of the network.
        """

    def train_mode(self, network: Network) -> None:
        """Put every part of the network in the mode that it trains in."""
        network.train()

    def parameters(self, network: Network, loss: Loss) -> list[nn.Parameter]:
        """What the optimizer updates: all that ``prepare`` left trainable, and the loss's own."""
        return [p for module in (network, loss) for p in module.parameters() if p.requires_grad]

    def parameter_groups(self, network: Network, loss: Loss) -> list[ParameterGroup]:
        """``parameters`` by their learning rates; by default one group, at that of the stage.

        A resumed run takes the optimizer's state of each group by its place in the list.
        """
        return [ParameterGroup(self.parameters(network, loss))]

    def targets(self, labels: Tensor) -> Targets:
        """What the samples of a batch with these host labels [B] are to be classified as."""
        return Targets(labels)

    def needs_confusions(self, epoch: int) -> bool:
        """Whether ``plan`` reads ``Classes.confusions`` in an epoch, counted from 0."""
        return False

    def plan(
        self, labels: Tensor, clock: Clock, groups: int, classes: Classes
    ) -> SynthesisPlan | None:
        """What is generated from the batch of a step with these host labels [B]; None for nothing.

        Args:
            labels: first labels of a mixed batch, else those that the samples have.
            groups: that the batch is cut into, each planned by itself.
        """
        return None

    def padded(self, plan: SynthesisPlan, groups: int, group: int, classes: int) -> SynthesisPlan:
        """The plan of a part of the batch, as it is carried out; by default as it is.

        Args:
            plan: of ``groups`` groups of at most ``group`` samples.
            classes: C.
        """
        return plan

    def total(self, values: Tensor, weights: Tensor, real: int, of: Divisors) -> StageLoss:
        """The loss of a step, or what a part of it adds, from its rows.

        Args:
            values, weights: [R] each, of ``Loss.forward``; the first ``real`` rows are real.
            of: the sums of the weights of all parts.
        """
        mean = part_of_mean(values, weights, of.every)
        return StageLoss(mean, mean.detach(), None)

    def class_shares(
        self, real: Shares, generated: Shares, of: tuple[float, float] | None = None
    ) -> Shares:
        """How much of ``total`` each class is, summed over an epoch: [C], of sum 1.

        Args:
            real, generated: [C] the weights of the rows of each class.
            of: what the means of the real rows and of all rows divide by, where that is not the
                sum of these weights.
        """
        shares: Shares = real / real.sum()
        return shares

    @property
    def settles(self) -> bool:
        """Whether ``settle`` does anything, in a pass over the training images."""
        return False

    def settle(self, network: Network, batches: Batches) -> None:
        """Change the weights that the stage ends with, before they are evaluated.

        Args:
            batches: of the training split; a pure function of them and of the network.
        """


def part_of_mean(values: Tensor, weights: Tensor, divisor: Tensor) -> Tensor:
    """What rows [R] add to a mean by weights that add up to ``divisor``; 0 where that is 0."""
    return (values * weights).sum() / torch.where(divisor > 0, divisor, 1.0)


def train_classifier_alone(network: Network, seed: int | None = None) -> None:
    """Freeze all but what the classifier trains; with a ``seed`` draw its weights anew."""
    network.requires_grad_(False)
    for parameter in network.classifier.trained():
        parameter.requires_grad_(True)
    if seed is not None:
        torch.manual_seed(seed)
        network.classifier.reset_parameters()


def refuse_loss_of_cosines(option: str, loss: str) -> None:
    """For a stage that scales the logits: refuse a ``loss``, named by ``option``, of cosines alone.

    Raises:
        UserError: the loss is not ``of_any_logits``.
    """
    if not LOSSES.get(loss).of_any_logits:
        raise UserError(
            f"{option} = {loss}: expected a loss of any logits, as the stage scales the cosines, "
            "and not their margins; say another"
        )


class ClassifierStage(Stage):
    """A stage that trains the classifier, or what it adds to it, on features that are frozen.

    Embeddings are all that it needs of the images (``ltvr.posthoc.training``): it neither mixes
    them nor generates from them, and has nothing to ``settle``.
    """

    needs_trained = True
    batchnorm: Literal["train", "eval"]
    """Of the frozen backbone: ``train`` normalises by the statistics of each batch, which move the
    running ones; ``eval`` by the running ones as they are."""

    def train_mode(self, network: Network) -> None:
        """The frozen part as ``batchnorm`` says; the classifier trains."""
        network.train(self.batchnorm == "train")
        network.classifier.train()
