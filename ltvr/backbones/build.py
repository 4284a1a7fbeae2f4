"""A backbone by name, and its parts."""

from __future__ import annotations

from typing import get_args

from torch import nn

from ltvr.backbones import BACKBONES
from ltvr.backbones.base import Family, Normalisation, Parts
from ltvr.backbones.options import Stem
from ltvr.errors import UserError, expected

__all__ = ["build_backbone", "check_pretrained", "take_apart"]


def build_backbone(
    name: str,
    stem: Stem = "imagenet",
    pretrained: bool = False,
    image_size: int | None = None,
) -> nn.Module:
    """Build a backbone by name; its weights are drawn from torch's global generator.

    Args:
        name: ``resnext50_32x4d`` or another residual network of torchvision, ``resnext14_8x4d``
            or ``resnext14_8x4d_slim`` for CPUs, or ``timm:NAME``: see the files of
            ``ltvr/backbones``.
        stem: ``imagenet`` (7x7 stride 2, max-pool), ``cifar`` (3x3 stride 1, no pool) or
            ``stride2`` (3x3 stride 2, no pool).
        pretrained: load ImageNet weights, which needs a network connection.
        image_size: in pixels, for backbones that are made for one size; None is their own.

    Raises:
        UserError: an unknown name or stem, no weights for the backbone, or a stem that would
            replace a part of them.
        OSError: ``pretrained`` weights that cannot be downloaded.
    """
    if stem not in get_args(Stem):
        raise UserError(f"stem = {stem!r}: expected one of {', '.join(get_args(Stem))}")
    family = _family(name)
    own = family.stems[0]
    if stem not in family.stems:
        raise UserError(
            f"stem = {stem!r}: {name} has {' or '.join(family.stems)}; use --stem {own}"
        )
    if pretrained:
        check_pretrained(name, stem)
    backbone = family.build(name, pretrained, image_size)
    if stem != own:
        _replace_stem(backbone, name, stem)
    return backbone


def check_pretrained(name: str, stem: Stem) -> Normalisation:
    """What the images were normalised by that the pretrained weights of ``name`` saw.

    Raises:
        UserError: no weights for it, a stem that would replace a part of them, or an unknown name.
    """
    family = _family(name)
    seen = family.normalisation(name)
    if stem != family.stems[0]:
        raise UserError(
            f"pretrained: --stem {stem} replaces the first layer of {name} by one that is not "
            f"trained; add --stem {family.stems[0]}, or --no-pretrained"
        )
    return seen


def take_apart(backbone: nn.Module, image_size: int) -> Parts:
    """The parts of a backbone, of whichever family it is.

    Args:
        image_size: S, in pixels, that the sizes of the maps are for.

    Raises:
        UserError: a backbone of no family, or one that cannot be taken apart or take such images.
    """
    kind = type(backbone).__name__
    try:
        found = (family.parts(backbone, image_size) for family in _families())
        parts = next((each for each in found if each is not None), None)
    except UserError:
        raise
    except Exception as error:  # whatever a network raises for images that it is not made for
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"image_size = {image_size}: {kind} cannot take such images ({reason}); choose another "
            "--image-size"
        ) from None
    if parts is None:
        children = ", ".join(name for name, _ in backbone.named_children())
        raise UserError(
            f"backbone {kind}: expected a residual network with the parts layer1, layer2, ... and "
            f"fc, or a network of timm, got {children or 'no parts'}"
        )
    return parts


def _families() -> list[Family]:
    return [BACKBONES.get(each)() for each in BACKBONES.names()]


def _family(name: str) -> Family:
    """The family that has a backbone called ``name``."""
    family = next((f for f in _families() if f.has(name)), None)
    if family is None:
        known = [n for f in _families() for n in f.names()]
        known.sort(key=lambda n: (":" in n, n))  # a pattern of many names comes last
        meant = next(filter(None, (f.meant(name) for f in _families())), "")
        hint = f"; did you mean {meant}?" if meant else ""
        raise UserError(f"backbone = {name!r}: {expected(name, known)}{hint}")
    return family


def _replace_stem(backbone: nn.Module, name: str, stem: Stem) -> None:
    """Put a 3x3 convolution in the place of a residual network's 7x7 one and its pooling."""
    conv, has_pool = getattr(backbone, "conv1", None), hasattr(backbone, "maxpool")
    if not isinstance(conv, nn.Conv2d) or not has_pool:
        raise UserError(
            f"stem = {stem!r}: {name} has no single conv1 with a pooling to replace; use --stem "
            "imagenet, which leaves its first layers as they are"
        )
    small = nn.Conv2d(3, conv.out_channels, 3, 1 if stem == "cifar" else 2, 1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    backbone.conv1 = small
    backbone.maxpool = nn.Identity()
