"""Families of backbones, one file each; ``base.py`` is the interface, ``build.py`` the way in."""

from ltvr.backbones.base import Family
from ltvr.config.slots import Slot

__all__ = ["BACKBONES"]

BACKBONES: Slot[Family] = Slot("backbone family", __name__, Family)
