"""Classifier re-training (cRT): the classifier alone, on class-balanced samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ltvr.config.config import Config
from ltvr.config.options import Options, option
from ltvr.losses import LOSSES
from ltvr.networks.network import Network
from ltvr.samplers import SAMPLERS
from ltvr.stages.base import ClassifierStage, train_classifier_alone
from ltvr.stages.options import TrainingOptions

__all__ = ["CRT", "CRTOptions"]


@dataclass(frozen=True)
class CRTOptions(Options):
    """Stage 2, cRT."""

    crt_epochs: int = option(10, "epochs of the classifier alone", at_least=1)
    crt_lr: float = option(0.2, "learning rate at --lr-batch images a step", at_least=0)
    crt_sampler: str = option(
        "class-aware", "how often each class comes, and in which order", slot=SAMPLERS
    )
    crt_loss: str = option("cross-entropy", "loss of every row", slot=LOSSES)
    crt_batchnorm: Literal["train", "eval"] = option(
        "train", "BatchNorm of the frozen backbone: batch statistics, or frozen ones"
    )
    crt_init: Literal["fresh", "keep"] = option("fresh", "start of the classifier")


class CRT(ClassifierStage):
    """Everything but the classifier is frozen, and the classifier starts afresh.

    Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020.
    Their cosine schedule falls at the start of an epoch, so that the last of theirs has the rate 0;
    ours falls at every step. LWS the same.
    """

    options_type = CRTOptions
    title = "cRT"
    lr_flag = "--crt-lr"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.options = config.of(CRTOptions)
        self.epochs = self.options.crt_epochs
        self.lr = config.of(TrainingOptions).scaled_lr(self.options.crt_lr)
        self.loss = self.options.crt_loss
        self.batchnorm = self.options.crt_batchnorm
        self.sampler = SAMPLERS.build(config, self.options.crt_sampler)

    def prepare(self, network: Network, seed: int) -> None:
        """Freeze all but what the classifier trains, and draw that anew unless it is kept."""
        train_classifier_alone(network, seed if self.options.crt_init == "fresh" else None)
