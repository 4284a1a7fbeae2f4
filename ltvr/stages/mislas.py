"""MiSLAS's second stage: the classifier goes on slowly, with scales, under smoothed labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ltvr.classifiers.build import Scaled
from ltvr.config.config import Config
from ltvr.config.options import Options, option
from ltvr.losses import LOSSES
from ltvr.losses.base import Loss
from ltvr.networks.network import Network
from ltvr.samplers import SAMPLERS
from ltvr.stages.base import (
    ClassifierStage,
    ParameterGroup,
    refuse_loss_of_cosines,
    train_classifier_alone,
)
from ltvr.stages.options import TrainingOptions

__all__ = ["MiSLAS", "MiSLASOptions"]


@dataclass(frozen=True)
class MiSLASOptions(Options):
    """Stage 2, MiSLAS."""

    mislas_epochs: int = option(10, "epochs of classifier and scales", at_least=1)
    mislas_lr: float = option(
        0.2, "learning rate of the scales at --lr-batch images a step", at_least=0
    )
    mislas_classifier_factor: float = option(
        0.05,
        "factor on the learning rate for the classifier of the first stage (0.5 on CIFAR-10, 0.2 "
        "on CIFAR-100)",
        at_least=0,
        at_most=1,
    )
    mislas_sampler: str = option(
        "class-aware", "how often each class comes, and in which order", slot=SAMPLERS
    )
    mislas_loss: str = option("label-aware-smoothing", "loss of every row", slot=LOSSES)
    mislas_batchnorm: Literal["train", "eval"] = option(
        "train",
        "BatchNorm of the frozen backbone: those of batches, or frozen ones, as the "
        "authors have it for CIFAR-10 at 100 : 1",
    )

    def check(self, config: Any) -> None:
        """Refuse a loss whose margins the scales would not scale."""
        refuse_loss_of_cosines("mislas_loss", self.mislas_loss)


class MiSLAS(ClassifierStage):
    """s_c z_c: scales as in ``lws``, and the classifier of the first stage at a lower rate.

    Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021, after a first stage
    with mixup. The loss is their label-aware smoothing, and BatchNorm learns the statistics of the
    class-balanced samples ("shifted"). Rates of the two parts and smoothing are those of their
    code: 0.1 for 128 images on CIFAR and for 256 on larger sets. Their cosine schedule falls once
    an epoch, ours at every step.
    """

    options_type = MiSLASOptions
    title = "MiSLAS"
    replaces_classifier = True
    lr_flag = "--mislas-lr"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.options = config.of(MiSLASOptions)
        self.epochs, self.loss = self.options.mislas_epochs, self.options.mislas_loss
        self.lr = config.of(TrainingOptions).scaled_lr(self.options.mislas_lr)
        self.batchnorm = self.options.mislas_batchnorm
        self.sampler = SAMPLERS.build(config, self.options.mislas_sampler)

    def prepare(self, network: Network, seed: int) -> None:
        """Freeze all but what the classifier trains, which stays as it is, and scale its logits."""
        train_classifier_alone(network)
        network.classifier = Scaled(network.classifier, network.num_classes)

    def parameter_groups(self, network: Network, loss: Loss) -> list[ParameterGroup]:
        """The scales (and what the loss trains) at the stage's rate, the classifier at its own."""
        assert isinstance(network.classifier, Scaled), "prepare has made it so"
        kept = [p for p in network.classifier.classifier.parameters() if p.requires_grad]
        own = {id(p) for p in kept}
        others = [p for p in self.parameters(network, loss) if id(p) not in own]
        return [ParameterGroup(others), ParameterGroup(kept, self.options.mislas_classifier_factor)]
