"""LTVR: a residual backbone with AFA between two of its stages."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ltvr.afa import AFA
from ltvr.planning import SynthesisPlan
from ltvr.split import feature_shape, split_backbone

__all__ = ["LTVR"]


class LTVR(nn.Module):
    """Backbone, AFA and classifier (the paper's Fig. 1).

    ``forward`` is inference: backbone and decomposition. Generation is ``forward_augmented``, which
    the trainer alone calls: an exported model contains none of it.

    Args:
        backbone: a torchvision or timm ResNet/ResNeXt (``ltvr.backbone.build_backbone``); its own
            classifier is dropped.
        num_classes: C.
        insert_after: the stage AFA follows, ``layer3`` in the paper; None for no AFA: the plain
            backbone, the paper's baseline.
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
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes = {num_classes}: expected at least 2")
        parts = split_backbone(backbone, insert_after or "layer3")
        self.image_size = image_size
        self.extractor = parts.extractor
        self.afa: AFA | None = None
        if insert_after is not None:
            channels, height, width = feature_shape(parts.extractor, image_size)
            self.afa = AFA(channels, (height, width), **afa_options)
        self.head = parts.head
        self.classifier = nn.Linear(parts.embedding_dim, num_classes)

    def _extract(self, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images of shape {list(images.shape)}: expected [B, 3, H, W]")
        if tuple(images.shape[2:]) != (self.image_size, self.image_size):
            raise ValueError(
                f"images of {images.shape[2]}x{images.shape[3]} pixels: this model was built for "
                f"{self.image_size}x{self.image_size}; resize them, or build it with "
                f"image_size={images.shape[2]}"
            )
        return self.extractor(images)

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to embeddings [B, E], what the classifier reads."""
        features = self._extract(images)
        return self.head(features if self.afa is None else self.afa(features))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to logits [B, C].

        Raises:
            ValueError: images of another size than the model was built for.
        """
        return self.classifier(self.embed(images))

    def forward_augmented(
        self, images: Tensor, labels: Tensor, plan: SynthesisPlan
    ) -> tuple[Tensor, Tensor]:
        """Logits of the real and the generated samples in one pass of the head.

        Args:
            images: [B, 3, S, S].
            labels: [B] int64, on the device of the images.
            plan: of these labels (``ltvr.plan_synthesis``), on the device of the images.

        Returns:
            logits [B+G, C], the B real ones first, and labels [B+G].
        """
        if self.afa is None:
            raise RuntimeError("the baseline has no AFA: build LTVR with insert_after='layer3'")
        features, labels = self.afa.augment_planned(self._extract(images), labels, plan)
        return self.classifier(self.head(features)), labels

    def masks(self, images: Tensor) -> Tensor:
        """Return the decomposition masks M [B, D, H, W] (eq. 3), to look at."""
        if self.afa is None:
            raise RuntimeError("the baseline has no AFA, and so no masks")
        return self.afa.mask(self._extract(images))
