"""Learnable weight scaling (LWS): a scale of each class's logit, on class-balanced samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ltvr.classifiers.build import Scaled
from ltvr.config.config import Config
from ltvr.config.options import Options, option
from ltvr.losses import LOSSES
from ltvr.networks.network import Network
from ltvr.samplers import SAMPLERS
from ltvr.stages.base import ClassifierStage, refuse_loss_of_cosines
from ltvr.stages.options import TrainingOptions

__all__ = ["LWS", "LWSOptions"]


@dataclass(frozen=True)
class LWSOptions(Options):
    """Stage 2, LWS."""

    lws_epochs: int = option(5, "epochs of the scales", at_least=1)
    lws_lr: float = option(0.2, "learning rate at --lr-batch images a step", at_least=0)
    lws_sampler: str = option(
        "class-aware", "how often each class comes, and in which order", slot=SAMPLERS
    )
    lws_loss: str = option("cross-entropy", "loss of every row", slot=LOSSES)
    lws_batchnorm: Literal["train", "eval"] = option(
        "train", "BatchNorm of the frozen backbone: batch statistics, or frozen ones"
    )

    def check(self, config: Any) -> None:
        """Refuse a loss whose margins the scales would not scale."""
        refuse_loss_of_cosines("lws_loss", self.lws_loss)


class LWS(ClassifierStage):
    """z_c = s_c (<w_c, x> + b_c): everything is frozen but the scales s, which start at 1.

    Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020,
    section 4, with the 5 epochs of their code; there as here the bias is scaled as well, and the
    scales have weight decay.
    """

    options_type = LWSOptions
    title = "LWS"
    replaces_classifier = True
    lr_flag = "--lws-lr"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        options = config.of(LWSOptions)
        self.epochs, self.loss = options.lws_epochs, options.lws_loss
        self.lr = config.of(TrainingOptions).scaled_lr(options.lws_lr)
        self.batchnorm = options.lws_batchnorm
        self.sampler = SAMPLERS.build(config, options.lws_sampler)

    def prepare(self, network: Network, seed: int) -> None:
        """Freeze all there is, and scale what the classifier gives."""
        network.requires_grad_(False)
        network.classifier = Scaled(network.classifier, network.num_classes)
