"""The first stage: features, and with a decomposition the lay-back learning schedule (eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ltvr.afa.plan import SynthesisPlan
from ltvr.afa.planning import most_generated, plan_synthesis
from ltvr.afa.rarity import head_donors, weights_of_classes
from ltvr.clock import Clock, first_epoch
from ltvr.config.config import Config
from ltvr.config.options import Options, option
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.losses import LOSSES
from ltvr.losses.base import Divisors, Loss
from ltvr.losses.build import Deferred
from ltvr.mixing import MIXINGS
from ltvr.networks.batchnorm import measure_real_statistics
from ltvr.networks.network import Network
from ltvr.networks.options import NetworkOptions
from ltvr.samplers import SAMPLERS
from ltvr.samplers import build as samplers
from ltvr.samplers.base import Shares
from ltvr.stages.base import Classes, Stage, StageLoss, part_of_mean
from ltvr.stages.options import TrainingOptions
from ltvr.weightings import WEIGHTINGS
from ltvr.weightings.build import Weighted

if TYPE_CHECKING:
    from ltvr.data.batches import Batches

__all__ = ["Features", "FeaturesOptions", "lay_back_loss"]


@dataclass(frozen=True)
class FeaturesOptions(Options):
    """Stage 1, features."""

    epochs: int = option(90, "T, the epochs of this stage", at_least=0)
    lr: float = option(0.2, "learning rate at --lr-batch images a step", at_least=0)
    warmup_epochs: float = option(0.0, "linear warm-up before the schedule", at_least=0)
    warmup_by: Literal["step", "epoch"] = option(
        "step",
        "the warm-up rises at every step, or stands at (e + 1) / --warmup-epochs in epoch e",
        idle={"warmup_epochs": 0.0},
    )
    milestones: tuple[float, ...] = option(
        (),
        "shares of the epochs at which the learning rate falls by --lr-decay; none: cosine to 0",
        above=0,
        below=1,
    )
    lr_decay: float = option(
        0.1,
        "factor on the learning rate at each milestone",
        above=0,
        at_most=1,
        idle={"milestones": ()},
    )
    sampler: str = option(
        "instance", "how often each class comes, and in which order", slot=SAMPLERS
    )
    deferred_sampler: str = option(
        "none", "sampler from --deferred-sampler-start on (DRS)", slot=SAMPLERS, optional=True
    )
    deferred_sampler_start: float = option(
        0.8,
        "share of the epochs from which on it is that of --deferred-sampler",
        at_least=0,
        below=1,
        idle={"deferred_sampler": "none"},
    )
    loss: str = option("cross-entropy", "loss of every row", slot=LOSSES)
    deferred_loss: str = option(
        "none", "loss of every row from --deferred-loss-start on", slot=LOSSES, optional=True
    )
    deferred_loss_start: float = option(
        0.8,
        "share of the epochs from which on it is that of --deferred-loss",
        at_least=0,
        below=1,
        idle={"deferred_loss": "none"},
    )
    weighting: str = option(
        "none", "weights of the classes in the loss", slot=WEIGHTINGS, optional=True
    )
    weighting_start: float = option(
        0.0,
        "share of the epochs from which on the classes are weighted; 0.8 is DRW",
        at_least=0,
        below=1,
        idle={"weighting": "none"},
    )
    weighting_normalise: Literal["weights", "batch"] = option(
        "weights",
        "what the mean of a batch divides by: the sum of the weights in it, or its images",
        idle={"weighting": "none"},
    )
    mixing: str = option("none", "way of mixing the images of a batch", slot=MIXINGS, optional=True)
    features_batchnorm: Literal["running", "real"] = option(
        "running",
        "statistics that the stage ends with: those of training, generated samples and all, or "
        "those of the real images alone, in one more pass over them",
    )

    def check(self, config: Any) -> None:
        """Refuse a schedule under which what is asked for never begins."""
        if self.warmup_epochs > self.epochs > 0:
            raise UserError(
                f"warmup_epochs = {self.warmup_epochs:g}: in {self.epochs} epochs the learning "
                "rate never gets to --lr; lower it, or raise --epochs"
            )
        for name in ("deferred_sampler", "deferred_loss", "weighting"):
            share = getattr(self, f"{name}_start")
            begins = first_epoch(share, self.epochs)
            if getattr(self, name) != "none" and 0 < self.epochs <= begins:
                raise UserError(
                    f"{name}_start = {share:g}: {name} = {getattr(self, name)} would begin at "
                    f"epoch {begins} of {self.epochs}, and so never; lower it, or raise --epochs"
                )
        mixing = MIXINGS.build(config, self.mixing) if self.mixing != "none" else None
        if mixing is not None and self.epochs and not mixing.epochs(self.epochs):
            others = f", or lower {mixing.plain_options}" if mixing.plain_options else ""
            raise UserError(
                f"epochs = {self.epochs}: mixing = {self.mixing} mixes in none of them; raise "
                f"--epochs{others}"
            )
        start = first_generating_epoch(config)
        if start is not None and 0 < self.epochs <= start:
            share = config.of(GenerationOptions).lay_back_start
            raise UserError(
                f"lay_back_start = {share:g}: generation would begin at epoch {start} of "
                f"{self.epochs}, so nothing is ever generated; lower --lay-back-start (the paper's "
                "is a third), raise --epochs, or say --gamma 0"
            )


def first_generating_epoch(config: Config) -> int | None:
    """t, the epoch (from 0) from which on samples are generated; None for never."""
    options = config.of(GenerationOptions)
    if config.of(NetworkOptions).decomposition == "none" or options.gamma == 0:
        return None
    return first_epoch(options.lay_back_start, config.of(FeaturesOptions).epochs)


def lay_back_loss(
    values: Tensor,
    weights: Tensor,
    real: int,
    of: Divisors,
    weight: float,
    keep_size: bool = False,
) -> StageLoss:
    """L_ori + lambda L_all of real and generated rows (eq. 12), or what a part of them adds to it.

    L_ori is the mean loss of the real rows, L_all that of all. Where nothing is generated the loss
    is L_ori alone, as it is before epoch t.

    Args:
        values, weights: [B+G] each, the real rows first.
        real: B, the number of real rows.
        of: the sums of the weights of the step's rows; ``Divisors.of(weights, real)`` where these
            are all of them.
        weight: lambda.
        keep_size: whether it is divided by 1 + lambda: a weighted mean, as large as L_ori.
    """
    original = part_of_mean(values[:real], weights[:real], of.real)
    if of.synthetic is None:
        return StageLoss(original, original.detach(), None)
    everything = part_of_mean(values, weights, of.every)
    synthetic = part_of_mean(values[real:].detach(), weights[real:], of.synthetic)
    total = original + weight * everything
    return StageLoss(total / (1 + weight) if keep_size else total, original.detach(), synthetic)


class Features(Stage):
    """Trains the whole network. From epoch t on generated samples join the real ones."""

    options_type = FeaturesOptions
    title = "features"
    lr_flag = "--lr"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        options = config.of(FeaturesOptions)
        self.epochs = options.epochs
        self.lr = config.of(TrainingOptions).scaled_lr(options.lr)
        self.warmup_epochs, self.warmup_by = options.warmup_epochs, options.warmup_by
        self.milestones, self.lr_decay = options.milestones, options.lr_decay
        self.loss = options.loss
        self.sampler = SAMPLERS.build(config, options.sampler)
        if options.deferred_sampler != "none":
            then = SAMPLERS.build(config, options.deferred_sampler)
            self.sampler = samplers.Deferred(self.sampler, then, options.deferred_sampler_start)
        if options.mixing != "none":
            self.mixing = MIXINGS.build(config, options.mixing)
        self.generation = config.of(GenerationOptions)
        self.start = first_generating_epoch(config)
        self.generates = self.start is not None and self.start < self.epochs

    def build_loss(self, counts: Tensor) -> Loss:
        """The loss, or the two of them, under weights of the classes if there are to be any."""
        loss, options = super().build_loss(counts), self.config.of(FeaturesOptions)
        if options.deferred_loss != "none":
            then = LOSSES.build(self.config, options.deferred_loss, counts)
            loss = Deferred(loss, then, options.deferred_loss_start, counts)
        if options.weighting == "none":
            return loss
        weights = WEIGHTINGS.build(self.config, options.weighting).weights(counts)
        return Weighted(loss, weights, options.weighting_start, options.weighting_normalise)

    def needs_confusions(self, epoch: int) -> bool:
        """From epoch t on, where donors are drawn by them."""
        generates = self.start is not None and epoch >= self.start
        return generates and self.generation.donors == "confused"

    def plan(
        self, labels: Tensor, clock: Clock, groups: int, classes: Classes
    ) -> SynthesisPlan | None:
        """From epoch t on, the synthesis plan of the batch (eq. 9-11), group by group."""
        if self.start is None or clock.epoch < self.start:
            return None
        plan = plan_synthesis(
            labels,
            gamma=self.generation.gamma,
            alpha=self.generation.alpha,
            seed=clock.seed,
            step=clock.steps_done,
            groups=groups,
            class_weights=self._class_weights(classes),
            donor_weights=self._donor_weights(classes),
        )
        return plan.unmixed() if self.generation.donors == "self" else plan

    def _class_weights(self, classes: Classes) -> Tensor | None:
        if self.generation.rarity == "batch":
            return None
        return weights_of_classes(classes.counts, self.generation.rarity_exponent)

    def _donor_weights(self, classes: Classes) -> Tensor | None:
        if self.generation.donors == "head":
            return head_donors(classes.counts, self.generation.head_share)
        if self.generation.donors == "confused":
            return classes.confused_donors
        return None

    def padded(self, plan: SynthesisPlan, groups: int, group: int, classes: int) -> SynthesisPlan:
        """With ``fixed_size``, of as many rows as no plan of such groups exceeds."""
        if not self.generation.fixed_size:
            return plan
        return plan.padded(groups * most_generated(group, self.generation.gamma, classes))

    def total(self, values: Tensor, weights: Tensor, real: int, of: Divisors) -> StageLoss:
        """The lay-back loss (eq. 12)."""
        options = self.generation
        return lay_back_loss(values, weights, real, of, options.loss_weight, options.keep_step_size)

    def class_shares(
        self, real: Shares, generated: Shares, of: tuple[float, float] | None = None
    ) -> Shares:
        """Those of L_ori + lambda L_all (eq. 12), where anything is generated."""
        if not generated.any():
            return super().class_shares(real, generated)
        everything = real + generated
        of_real, of_all = of or (real.sum(), everything.sum())
        shares: Shares = real / of_real + self.generation.loss_weight * everything / of_all
        shares /= shares.sum()
        return shares

    @property
    def settles(self) -> bool:
        """Whether the statistics of real images are asked for."""
        return self.epochs > 0 and self.config.of(FeaturesOptions).features_batchnorm == "real"

    def settle(self, network: Network, batches: Batches) -> None:
        """Measure the BatchNorm statistics of real images, if that is asked for."""
        if self.settles:
            measure_real_statistics(network, batches, self.config)
