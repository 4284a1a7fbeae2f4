"""The network: extractor, decomposition, embedder, classifier (the paper's Fig. 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ltvr.afa.plan import SynthesisPlan
from ltvr.backbones.base import dry_run
from ltvr.classifiers.base import Classifier
from ltvr.classifiers.linear import Linear
from ltvr.config.options import NoOptions
from ltvr.decompositions.afa import AFA
from ltvr.decompositions.base import Decomposition
from ltvr.losses.base import Outputs
from ltvr.mixing.base import Blend
from ltvr.networks.cut import LastMap, cut_backbone
from ltvr.normalisation import statistics_left

__all__ = ["LTVR", "Network"]


class Network(nn.Module):
    """A backbone cut in two, with a decomposition in the cut, and a classifier.

    ``forward`` is inference: backbone, decomposition and classifier. Generation is in ``outputs``
    with a plan, which training alone calls: an exported network contains none of it.

    Args:
        extractor: images [B, 3, S, S] to features [B, D, H, W].
        decomposition: of these features; None for the plain backbone.
        embedder: features to embeddings [B, E].
        classifier: embeddings to logits [B, C].
        image_size: S, the side of the square images, in pixels.
        stages: names of the parts of extractor and embedder after which maps may be mixed.
        own_statistics: normalise generated rows by their own batch statistics, apart from the real
            ones, whose running statistics they then leave alone.
    """

    def __init__(
        self,
        extractor: nn.Module,
        decomposition: Decomposition | None,
        embedder: nn.Module,
        classifier: Classifier,
        image_size: int,
        stages: tuple[str, ...] = (),
        own_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.own_statistics = own_statistics
        self.image_size, self.stages = image_size, stages
        self.extractor = extractor
        self.decomposition = decomposition
        self.embedder = embedder
        self.classifier = classifier

    @property
    def backend(self) -> str | None:
        """What runs the decomposition, a name of ``ltvr.afa.functional.Backend``; None without."""
        return None if self.decomposition is None else self.decomposition.backend

    @property
    def last_map(self) -> LastMap:
        """Where the maps of the backbone's last stage pass, before they are pooled."""
        return next(part for part in self.embedder.modules() if isinstance(part, LastMap))

    @property
    def num_classes(self) -> int:
        """C, the number of logits, whatever the classifier is; a dry run tells."""
        parts = nn.Sequential(self.extractor, self.embedder, self.classifier)
        images = torch.empty(1, 3, self.image_size, self.image_size, device="meta")
        return int(dry_run(parts, images, training=False).shape[1])

    def use_backend(self, backend: str) -> None:
        """Let ``backend`` run the decomposition, if there is one, from now on."""
        if self.decomposition is not None:
            self.decomposition.backend = backend

    def features(self, images: Tensor, blend: Blend | None = None) -> Tensor:
        """Images [B, 3, S, S] to features [B, D, H, W], what the decomposition reads.

        Args:
            blend: what is to be mixed on the way, on the device of the images.

        Raises:
            ValueError: images of another size than the network was built for.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images of shape {list(images.shape)}: expected [B, 3, H, W]")
        if tuple(images.shape[2:]) != (self.image_size, self.image_size):
            raise ValueError(
                f"images of {images.shape[2]}x{images.shape[3]} pixels: this model was built for "
                f"{self.image_size}x{self.image_size}; resize them, or build it with "
                f"image_size={images.shape[2]}"
            )
        return self._through(self.extractor, images, blend)

    def outputs(
        self, images: Tensor, plan: SynthesisPlan | None = None, blend: Blend | None = None
    ) -> Outputs:
        """Logits and embeddings of the real rows, and of those that ``plan`` generates.

        Args:
            images: [B, 3, S, S].
            plan: of the labels of these images, on their device; None generates nothing.
            blend: what is to be mixed after a stage of ``stages``, on their device.

        Returns:
            R = B + G rows, the B real ones first.

        Raises:
            ValueError: images of another size, or a plan without a decomposition.
        """
        features = self.features(images, blend)
        if plan is not None:
            features = self._decomposition().generate(features, plan)
        elif self.decomposition is not None:
            features = self.decomposition(features)
        if plan is not None and self.own_statistics:
            real, generated = features.split([len(images), plan.generated])
            embeddings = self._through(self.embedder, real, blend)
            if plan.generated:
                # BatchNorm refuses a single row on 1x1 maps. The row is given twice, which leaves
                # mean and variance as they are.
                rows = torch.cat([generated] * 2) if plan.generated == 1 else generated
                with statistics_left(self.embedder):
                    own = self.embedder(rows)[: plan.generated]
                embeddings = torch.cat([embeddings, own])
        else:
            embeddings = self._through(self.embedder, features, blend)
        return Outputs(self.logits(embeddings), embeddings)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Embeddings [R, E] to logits [R, C], under autocast in float32 as well.

        Half precision rounds the two largest logits of one image in a hundred to the same number
        (100 classes, bfloat16), and the lower label would win: in most data sets a larger class.
        """
        device = embeddings.device.type
        if device == "meta" or not torch.is_autocast_enabled(device):
            logits: Tensor = self.classifier(embeddings)
            return logits
        with torch.autocast(device, enabled=False):
            logits = self.classifier(embeddings.float())
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to logits [B, C].

        Raises:
            ValueError: images of another size than the network was built for.
        """
        return self.outputs(images).logits

    def masks(self, images: Tensor) -> Tensor:
        """What the decomposition takes for class-related [B, D, H, W], to look at."""
        return self._decomposition().mask(self.features(images))

    def _through(self, half: nn.Module, x: Tensor, blend: Blend | None) -> Tensor:
        """``x`` through a half of the network, mixed after the stage of ``blend``, if there."""
        if blend is None:
            output: Tensor = half(x)
            return output
        stage = self.stages[blend.after - 1]
        for name, part in half.named_children():
            if stage.startswith(f"{name}."):  # a sequence of stages
                for inner, each in part.named_children():
                    x = each(x)
                    x = blend.mix(x) if stage == f"{name}.{inner}" else x
            else:
                x = part(x)
                x = blend.mix(x) if stage == name else x
        return x

    def _decomposition(self) -> Decomposition:
        if self.decomposition is None:
            raise ValueError(
                "this network has no decomposition, and so no masks and nothing to generate from; "
                "build LTVR with insert_after='layer3'"
            )
        return self.decomposition


class LTVR(Network):
    """The network of the paper: a backbone with AFA in it and a linear classifier.

    Args:
        backbone: a residual network of torchvision, or a network of timm whose stages give maps,
            from ``ltvr.backbones.build.build_backbone`` say; its own classifier is left out.
        num_classes: C, the number of classes.
        insert_after: the stage AFA follows, ``layer3`` in the paper, ``stages.2`` of a ConvNeXt
            say; None for no AFA: the plain backbone, the paper's baseline.
        image_size: side of the square images, in pixels.
        **afa_options: of ``ltvr.AFA``.

    Raises:
        ValueError: a backbone or option that does not fit, by name.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        insert_after: str | None = "layer3",
        *,
        image_size: int = 224,
        **afa_options: Any,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes = {num_classes}: expected at least 2")
        decomposed = insert_after is not None
        parts = cut_backbone(
            backbone, "layer3" if insert_after is None else insert_after, image_size, decomposed
        )
        afa: AFA | None = None
        if decomposed:
            channels, height, width = parts.features
            afa = AFA(channels, (height, width), **afa_options)
        classifier = Linear(NoOptions(), parts.embedding_dim, num_classes)
        super().__init__(parts.extractor, afa, parts.embedder, classifier, image_size, parts.stages)
