"""Residual backbones: torchvision's, small ResNeXts for CPUs, and timm's through an adapter."""

from __future__ import annotations

from typing import Literal, get_args

import torchvision
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

__all__ = ["Stem", "build_backbone"]

Stem = Literal["imagenet", "cifar", "stride2"]


class _SlimBottleneck(Bottleneck):
    """A bottleneck whose output is as wide as its planes: D = 256 after the third stage."""

    expansion: int = 1


# One block a stage: 4 x 3 + 2 = 14 layers, 8 groups of width 4.
_SMALL = {"resnext14_8x4d": Bottleneck, "resnext14_8x4d_slim": _SlimBottleneck}


def build_backbone(name: str, stem: Stem = "imagenet", pretrained: bool = False) -> nn.Module:
    """Build a backbone by name.

    Args:
        name: a torchvision ResNet or ResNeXt (``resnext50_32x4d``); ``resnext14_8x4d`` (one block
            a stage, D = 1024 after layer3) or ``resnext14_8x4d_slim`` (D = 256) for CPUs; or
            ``timm:NAME`` for a residual backbone of timm.
        stem: ``imagenet`` (7x7 stride 2, max-pool), ``cifar`` (3x3 stride 1, no pool) or
            ``stride2`` (3x3 stride 2, no pool).
        pretrained: load ImageNet weights (torchvision, timm); needs a network.

    Raises:
        ValueError: an unknown name or stem.
        OSError: ``pretrained`` weights that cannot be downloaded.
        ModuleNotFoundError: ``timm:`` without timm.
    """
    if stem not in get_args(Stem):
        raise ValueError(f"stem = {stem!r}: expected one of {', '.join(get_args(Stem))}")
    backbone: nn.Module
    if name.startswith("timm:"):
        try:
            import timm
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"backbone = {name!r} needs timm: run `pip install timm`"
            ) from None
        model = name.removeprefix("timm:")
        if not timm.is_model(model):
            raise ValueError(f"backbone = {name!r}: timm has no {model!r}; see timm.list_models()")
        backbone = timm.create_model(model, pretrained=pretrained)
    elif name in _SMALL:
        if pretrained:
            raise ValueError(f"pretrained: there are no weights for {name!r}")
        backbone = ResNet(_SMALL[name], [1, 1, 1, 1], groups=8, width_per_group=4)
    else:
        families = ("resnet", "resnext", "wide_resnet")
        known = [n for n in torchvision.models.list_models() if n.startswith(families)]
        if name not in known:
            raise ValueError(
                f"backbone = {name!r}: expected one of {', '.join([*_SMALL, *known])}, or timm:NAME"
            )
        backbone = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    if stem != "imagenet":
        conv = getattr(backbone, "conv1", None)
        if not isinstance(conv, nn.Conv2d):
            raise ValueError(
                f"stem = {stem!r}: {name} has no single conv1 to replace; use imagenet"
            )
        small = nn.Conv2d(3, conv.out_channels, 3, 1 if stem == "cifar" else 2, 1, bias=False)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        backbone.conv1 = small
        backbone.maxpool = nn.Identity()
    return backbone
