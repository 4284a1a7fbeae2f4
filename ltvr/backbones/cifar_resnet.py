"""ResNets for CIFAR: the networks that the long-tailed field reports on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr.backbones.base import Family

__all__ = ["CIFARResNet"]

DEPTHS = (20, 32, 44, 56, 110)


class CIFARResNet(Family):
    """``resnet20_cifar``, ``resnet32_cifar``, ...: 6 n + 2 layers, three stages of n basic blocks.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2: stages of 16,
    32 and 64 channels, shortcuts that subsample and pad with zeros (option A), so that no shortcut
    has weights. Weights are drawn by Kaiming's normal initialisation, the classifier's too, as in
    the code of Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
    NeurIPS 2019, whose recipe the field trains it with.
    """

    stems = ("cifar",)

    def names(self) -> list[str]:
        """The depths of the paper."""
        return [f"resnet{depth}_cifar" for depth in DEPTHS]

    def build(self, name: str, pretrained: bool, image_size: int | None) -> nn.Module:
        """Build one."""
        depth = int(name.removeprefix("resnet").removesuffix("_cifar"))
        return _ResNet((depth - 2) // 6)


class _ResNet(nn.Module):
    """Three stages of ``blocks`` basic blocks; the parts are called as torchvision's."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks, 32, 64, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to logits [B, C]."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = _BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(_BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x
        if self.stride > 1 or self.padding:
            kept = x[:, :, :: self.stride, :: self.stride]
            shortcut = F.pad(kept, (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + shortcut)
