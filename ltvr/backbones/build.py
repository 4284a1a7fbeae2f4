"""A backbone by name."""

from __future__ import annotations

from typing import get_args

from torch import nn

from ltvr.backbones import BACKBONES
from ltvr.backbones.options import Stem
from ltvr.errors import UserError

__all__ = ["build_backbone"]


def build_backbone(name: str, stem: Stem = "imagenet", pretrained: bool = False) -> nn.Module:
    """Build a backbone by name; its weights are drawn from torch's global generator.

    Args:
        name: ``resnext50_32x4d`` or another residual network of torchvision, ``resnext14_8x4d``
            or ``resnext14_8x4d_slim`` for CPUs, or ``timm:NAME``: see the files of
            ``ltvr/backbones``.
        stem: ``imagenet`` (7x7 stride 2, max-pool), ``cifar`` (3x3 stride 1, no pool) or
            ``stride2`` (3x3 stride 2, no pool).
        pretrained: load ImageNet weights, which needs a network connection.

    Raises:
        UserError: an unknown name or stem, or no weights for the backbone.
        OSError: ``pretrained`` weights that cannot be downloaded.
    """
    if stem not in get_args(Stem):
        raise UserError(f"stem = {stem!r}: expected one of {', '.join(get_args(Stem))}")
    families = [BACKBONES.get(each)() for each in BACKBONES.names()]
    family = next((f for f in families if f.has(name)), None)
    if family is None:
        known = [n for f in families for n in f.names()]
        raise UserError(f"backbone = {name!r}: expected one of {', '.join(known)}")
    if stem not in family.stems:
        raise UserError(
            f"stem = {stem!r}: {name} has {' or '.join(family.stems)}; use --stem {family.stems[0]}"
        )
    backbone = family.build(name, pretrained)
    if stem != family.stems[0]:
        conv = getattr(backbone, "conv1", None)
        if not isinstance(conv, nn.Conv2d):
            raise UserError(f"stem = {stem!r}: {name} has no single conv1 to replace; use imagenet")
        small = nn.Conv2d(3, conv.out_channels, 3, 1 if stem == "cifar" else 2, 1, bias=False)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        backbone.conv1 = small
        backbone.maxpool = nn.Identity()
    return backbone
