"""ResNets for CIFAR: the networks that the long-tailed field reports on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr.backbones.base import Family

__all__ = ["CIFARResNet"]

DEPTHS = (20, 32, 44, 56, 110)


PAIRED = "bbn_resnet32_cifar"


class CIFARResNet(Family):
    """``resnet20_cifar``, ``resnet32_cifar``, ...: 6 n + 2 layers, three stages of n basic blocks.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2: stages of 16,
    32 and 64 channels, shortcuts that subsample and pad with zeros (option A), so that no shortcut
    has weights. Weights are drawn by Kaiming's normal initialisation, as in the code of Cao et al.,
    Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019, whose
    recipe the field trains it with. There the classifier's are, too, and 2.5 times as large as
    those of ``ltvr.classifiers.linear``, which begins as PyTorch's does.

    ``bbn_resnet32_cifar`` is that of Zhou et al., BBN: Bilateral-Branch Network, CVPR 2020, as
    their code has it (megvii-research/BBN, ``lib/backbone/resnet_cifar.py``), and that of Tang et
    al., NeurIPS 2020, after them: the last of the fifteen blocks is there twice, side by side. Both
    read what the block before gives, and their maps together have 128 channels. BBN trains the two
    on different samples; here, and in Tang et al., their initial weights alone tell them apart.
    """

    stems = ("cifar",)

    def names(self) -> list[str]:
        """The depths of the paper, and BBN's network."""
        return [*(f"resnet{depth}_cifar" for depth in DEPTHS), PAIRED]

    def build(self, name: str, pretrained: bool, image_size: int | None) -> nn.Module:
        """Build one."""
        depth = int(name.removeprefix("bbn_").removeprefix("resnet").removesuffix("_cifar"))
        return _ResNet((depth - 2) // 6, paired=name == PAIRED)


class _ResNet(nn.Module):
    """Three stages of ``blocks`` basic blocks; the parts are called as torchvision's.

    Args:
        paired: whether a pair of blocks takes the place of the last one.
    """

    def __init__(self, blocks: int, paired: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks - paired, 32, 64, stride=2)
        if paired:
            self.pair = _Pair(64)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128 if paired else 64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] to logits [B, C]."""
        x = images
        for name, module in self.named_children():
            x = module(torch.flatten(x, 1) if name == "fc" else x)
        return x


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


class _Pair(nn.Module):
    """Two basic blocks side by side: maps of D channels to maps of 2 D."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (_BasicBlock(channels, channels, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x)], 1)
