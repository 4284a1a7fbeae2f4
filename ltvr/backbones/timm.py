"""Residual networks of timm."""

from __future__ import annotations

from torch import nn

from ltvr.backbones.base import Family
from ltvr.errors import UserError

__all__ = ["Timm"]

PREFIX = "timm:"


class Timm(Family):
    """``timm:NAME`` for a ResNet or ResNeXt of timm."""

    def names(self) -> list[str]:
        """The pattern: timm has hundreds."""
        return [f"{PREFIX}NAME"]

    def has(self, name: str) -> bool:
        """Whether the name begins with ``timm:``."""
        return name.startswith(PREFIX)

    def build(self, name: str, pretrained: bool) -> nn.Module:
        """Build a model of timm, which has to be installed."""
        try:
            import timm
        except ModuleNotFoundError:
            raise UserError(f"backbone = {name!r} needs timm: run `pip install timm`") from None
        model = name.removeprefix(PREFIX)
        if not timm.is_model(model):
            raise UserError(f"backbone = {name!r}: timm has no {model!r}; see timm.list_models()")
        return timm.create_model(model, pretrained=pretrained)
