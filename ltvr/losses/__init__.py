"""Losses of classification, one file each; ``base.py`` is the interface."""

from ltvr.config.slots import Slot
from ltvr.losses.base import Loss

__all__ = ["LOSSES"]

LOSSES: Slot[Loss] = Slot("loss", __name__, Loss)
