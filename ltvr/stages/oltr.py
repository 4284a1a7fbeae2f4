"""The second stage of OLTR: attention, memory and meta-embedding, on class-balanced samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr import distributed
from ltvr.config.config import Config
from ltvr.config.options import Options, option
from ltvr.config.run import RunOptions
from ltvr.device import autocast
from ltvr.errors import UserError
from ltvr.losses.base import Loss
from ltvr.networks.cut import EMBEDDING_LAYER
from ltvr.networks.network import Network
from ltvr.networks.options import NetworkOptions
from ltvr.oltr.attention import ModulatedAttention
from ltvr.oltr.classifier import MetaEmbedding
from ltvr.oltr.loss import CentroidLoss
from ltvr.samplers import SAMPLERS
from ltvr.stages import STAGES
from ltvr.stages.base import ParameterGroup, Stage
from ltvr.stages.options import TrainingOptions

if TYPE_CHECKING:
    from ltvr.data.batches import Batches

__all__ = ["OLTR", "OLTROptions"]


@dataclass(frozen=True)
class OLTROptions(Options):
    """Stage 2, OLTR."""

    oltr_epochs: int = option(60, "epochs of the stage", at_least=1)
    oltr_lr: float = option(
        0.4, "learning rate of the classifier at --lr-batch images a step", at_least=0
    )
    oltr_backbone_factor: float = option(
        0.1, "learning rate of the backbone, as a share of --oltr-lr", at_least=0
    )
    oltr_centroids_factor: float = option(
        0.1, "learning rate of the centroids, as a share of --oltr-lr", at_least=0
    )
    oltr_milestones: tuple[float, ...] = option(
        (1 / 3, 2 / 3),
        "shares of the epochs at which the learning rates fall by --oltr-lr-decay; none: cosine "
        "to 0",
        above=0,
        below=1,
    )
    oltr_lr_decay: float = option(
        0.1,
        "factor on the learning rates at each milestone",
        above=0,
        at_most=1,
        idle={"oltr_milestones": ()},
    )
    oltr_sampler: str = option(
        "class-aware", "how often each class comes, and in which order", slot=SAMPLERS
    )
    oltr_backbone: Literal["tuned", "frozen"] = option(
        "tuned", "frozen: nothing but the attention, the embedding layer and the classifier trains"
    )
    oltr_batchnorm: Literal["train", "eval"] = option(
        "train", "BatchNorm of the backbone: batch statistics, or frozen ones"
    )
    oltr_centroids_weight: float = option(
        0.01, "of the loss of the centroids, beside the cross-entropy", above=0
    )
    oltr_repel_weight: float = option(
        0.01, "of the distance to the centroids of other classes in that loss", at_least=0
    )
    oltr_margin: float = option(
        10.0,
        "mean squared distance from which on they do not repel",
        at_least=0,
        idle={"oltr_repel_weight": 0.0},
    )

    def check(self, config: Any) -> None:
        """Refuse a network whose classifier is not linear by then: the memory starts from it."""
        classifier, stages = config.of(NetworkOptions).classifier, config.of(TrainingOptions).stages
        if classifier != "linear":
            raise UserError(
                f"classifier = {classifier}: the stage oltr starts from a linear one, which it "
                "replaces; say --classifier linear"
            )
        before = stages[: stages.index("oltr")] if "oltr" in stages else ()
        for name in before:
            if STAGES.get(name).replaces_classifier:
                raise UserError(
                    f"stages = {' '.join(stages)}: oltr starts from a linear classifier, and "
                    f"{name} leaves another; put oltr before it, or leave one out"
                )


class OLTR(Stage):
    """Modulated attention goes behind the last stage, the meta-embedding in the classifier's place.

    Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019; the defaults are
    those of the authors' code for ImageNet-LT, whose learning rates of 0.1, 0.01 and 0.01 are for
    128 images a step, 0.4, 0.04 and 0.04 for 512. The embedding layer is there in the first stage,
    too, as in their code for Places-LT; that for ImageNet-LT has it in the second alone. With
    ``frozen`` their backbone for Places-LT: what trains are attention, embedding layer and
    classifier, at the rates and for the epochs of ImageNet-LT.
    """

    options_type = OLTROptions
    title = "OLTR"
    needs_trained = True
    replaces_classifier = True
    lr_flag = "--oltr-lr"
    loss = "cross-entropy"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.options = config.of(OLTROptions)
        self.epochs = self.options.oltr_epochs
        self.lr = config.of(TrainingOptions).scaled_lr(self.options.oltr_lr)
        self.milestones = self.options.oltr_milestones
        self.lr_decay = self.options.oltr_lr_decay
        self.sampler = SAMPLERS.build(config, self.options.oltr_sampler)

    def prepare(self, network: Network, seed: int) -> None:
        """Put attention and meta-embedding in; the latter starts from the classifier so far."""
        torch.manual_seed(seed)
        attention = ModulatedAttention(*network.last_map.shape)
        network.last_map.append(attention)
        assert isinstance(network.classifier, nn.Linear), "the options are held to it"
        network.classifier = MetaEmbedding(network.classifier)
        network.requires_grad_(self.options.oltr_backbone == "tuned")
        for part in (attention, getattr(network.embedder, EMBEDDING_LAYER, None)):
            if part is not None:
                part.requires_grad_(True)
        network.classifier.requires_grad_(True)

    @torch.no_grad()
    def begin(self, network: Network, batches: Batches) -> None:
        """Start the centroids as the mean embeddings of the classes, of images as in evaluation."""
        run, centroids = self.config.of(RunOptions), _memory(network).centroids
        network.eval()
        sums = torch.zeros_like(centroids, dtype=torch.float64)
        images_of = sums.new_zeros(len(sums), 1)
        own = distributed.share_of(len(batches.split), run.eval_batch_size)
        for images, labels in batches.evaluate(run.eval_batch_size, own):
            with autocast(run.amp, batches.device):
                embeddings = network.outputs(images).embeddings
            member = F.one_hot(labels, len(sums)).T.to(sums)
            sums += member @ embeddings.double()
            images_of += member.sum(1, keepdim=True)
        distributed.barrier()  # it fails where a rank has ended; NCCL would wait for that one
        centroids.copy_(distributed.sum_over_ranks(sums) / distributed.sum_over_ranks(images_of))

    def training_loss(self, network: Network, counts: Tensor) -> Loss:
        """Cross-entropy and the loss of the centroids."""
        return CentroidLoss(
            self.build_loss(counts),
            counts,
            _memory(network),
            weight=self.options.oltr_centroids_weight,
            repel_weight=self.options.oltr_repel_weight,
            margin=self.options.oltr_margin,
        )

    def train_mode(self, network: Network) -> None:
        """The backbone's statistics as ``oltr_batchnorm`` says; nothing else has modes."""
        network.train(self.options.oltr_batchnorm == "train")

    def parameter_groups(self, network: Network, loss: Loss) -> list[ParameterGroup]:
        """Classifier, what is before it, and centroids, each at its own rate."""
        memory = _memory(network)
        own = {id(p) for p in memory.parameters()}
        before = [p for p in self.parameters(network, loss) if id(p) not in own]
        return [
            ParameterGroup(memory.trained()),
            ParameterGroup(before, self.options.oltr_backbone_factor),
            ParameterGroup([memory.centroids], self.options.oltr_centroids_factor),
        ]


def _memory(network: Network) -> MetaEmbedding:
    """The classifier that ``prepare`` put into the network."""
    assert isinstance(network.classifier, MetaEmbedding), "the stage is prepared first"
    return network.classifier
