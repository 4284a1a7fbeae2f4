"""ResNeXt-50 32x4d, so that a step can be timed where torchvision is not installed.

``tests/networks/test_network.py`` holds it to torchvision's, weight by weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["resnext50"]

BLOCKS = (3, 4, 6, 3)
GROUPS, GROUP_WIDTH, EXPANSION = 32, 4, 4


class Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1, each with batch normalisation, around a shortcut."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        width, outputs = planes * GROUP_WIDTH * GROUPS // 64, planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=GROUPS, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def resnext50(stem: str) -> nn.Module:
    """Build the network with the names of torchvision's; ``stem`` as ``ltvr.backbones``'."""
    model = nn.Module()
    if stem == "imagenet":
        model.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    else:
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.bn1 = nn.BatchNorm2d(64)
    model.relu = nn.ReLU()
    model.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
    inputs = 64
    for stage, blocks in enumerate(BLOCKS):
        planes = 64 * 2**stage
        layers = []
        for block in range(blocks):
            layers.append(Bottleneck(inputs, planes, 2 if stage and not block else 1))
            inputs = planes * EXPANSION
        setattr(model, f"layer{stage + 1}", nn.Sequential(*layers))
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.fc = nn.Linear(inputs, 1000)
    return model
