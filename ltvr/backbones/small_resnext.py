"""Small ResNeXts, for CPUs."""

from __future__ import annotations

from torch import nn

from ltvr.backbones.base import Family

__all__ = ["SmallResNeXt"]


class SmallResNeXt(Family):
    """One bottleneck a stage: 4 x 3 + 2 = 14 layers, 8 groups of width 4.

    ``resnext14_8x4d`` has D = 1024 after layer3, ``resnext14_8x4d_slim``, whose bottlenecks are
    as wide at their end as inside, D = 256.
    """

    def names(self) -> list[str]:
        """Both."""
        return ["resnext14_8x4d", "resnext14_8x4d_slim"]

    def build(self, name: str, pretrained: bool, image_size: int | None) -> nn.Module:
        """Build one."""
        from torchvision.models.resnet import Bottleneck, ResNet

        class SlimBottleneck(Bottleneck):
            expansion: int = 1

        block = SlimBottleneck if name.endswith("_slim") else Bottleneck
        backbone: nn.Module = ResNet(block, [1, 1, 1, 1], groups=8, width_per_group=4)
        return backbone
