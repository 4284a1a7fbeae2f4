"""Options that every backbone has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ltvr.config.options import Options, option
from ltvr.errors import UserError

__all__ = ["BackboneOptions", "Stem"]

Stem = Literal["imagenet", "cifar", "stride2"]


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Backbone."""

    backbone: str = option(
        "resnext50_32x4d",
        "name in torchvision, a small ResNeXt, resnet32_cifar, bbn_resnet32_cifar, or timm:NAME",
        architecture=True,
    )
    stem: Stem = option(
        "imagenet",
        "first layers: 7x7 stride 2 and pooling, 3x3 stride 1, or 3x3 stride 2",
        architecture=True,
    )
    pretrained: bool = option(False, "start from ImageNet weights (needs a network connection)")
    weights: str = option(
        "", "file of weights that the backbone starts from: of torchvision, timm, or a run's .pt"
    )

    def check(self, config: Any) -> None:
        """Refuse two sources of the same weights."""
        if self.pretrained and self.weights:
            raise UserError(
                f"weights = {self.weights!r}: the backbone starts from a file or is --pretrained, "
                "not both; add --no-pretrained"
            )
