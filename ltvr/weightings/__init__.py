"""Weights of the classes in a loss, one way a file; ``base.py`` is the interface."""

from ltvr.config.slots import Slot
from ltvr.weightings.base import Weighting

__all__ = ["WEIGHTINGS"]

WEIGHTINGS: Slot[Weighting] = Slot("weighting", __name__, Weighting)
