"""The interface of a family of backbones."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ltvr.backbones.options import Stem
from ltvr.config.slots import Component

__all__ = ["Family"]


class Family(Component):
    """Backbones that are built alike.

    What they are built with is imported in ``build`` and ``names``, not before: to read a
    configuration takes no library of networks.
    """

    stems: ClassVar[tuple[Stem, ...]] = ("imagenet", "cifar", "stride2")
    """The first layers that it can have; a backbone is built with the first of them."""

    def names(self) -> list[str]:
        """The names of its backbones, or a pattern such as ``timm:NAME``, for errors."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        """Whether a backbone of this name is one of the family."""
        return name in self.names()

    def build(self, name: str, pretrained: bool) -> nn.Module:
        """Build a backbone with the parts ``layer1``, ``layer2``, ... and ``fc``.

        Raises:
            UserError: a name that the family's library does not know, or no weights for it.
            OSError: weights that cannot be downloaded.
        """
        raise NotImplementedError
