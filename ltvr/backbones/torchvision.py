"""Residual networks of torchvision."""

from __future__ import annotations

from torch import nn

from ltvr.backbones.base import Family, Normalisation

__all__ = ["Torchvision"]

FAMILIES = ("resnet", "resnext", "wide_resnet")


class Torchvision(Family):
    """ResNet, ResNeXt and Wide ResNet; ``resnext50_32x4d`` is the paper's."""

    def names(self) -> list[str]:
        """All that torchvision has."""
        import torchvision

        return [n for n in torchvision.models.list_models() if n.startswith(FAMILIES)]

    def build(self, name: str, pretrained: bool, image_size: int | None) -> nn.Module:
        """Build a model of torchvision."""
        import torchvision

        weights = "DEFAULT" if pretrained else None
        backbone: nn.Module = torchvision.models.get_model(name, weights=weights)
        return backbone

    def normalisation(self, name: str) -> Normalisation:
        """Of torchvision's default weights."""
        import torchvision

        transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        return Normalisation(tuple(transforms.mean), tuple(transforms.std))
