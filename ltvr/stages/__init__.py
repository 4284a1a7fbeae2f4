"""Stages of training, one file each; ``base.py`` is the interface."""

from ltvr.config.slots import Slot
from ltvr.stages.base import Stage

__all__ = ["STAGES"]

STAGES: Slot[Stage] = Slot("stage", __name__, Stage)
