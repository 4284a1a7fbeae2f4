"""Decompositions of features into class- and variation-related parts; ``base.py`` is the interface.

AFA's own is in ``ltvr/afa/``; others take its place here (the paper's Table V), one file each.
"""

from ltvr.config.slots import Slot
from ltvr.decompositions.base import Decomposition
from ltvr.decompositions.options import DecompositionOptions

__all__ = ["DECOMPOSITIONS"]

DECOMPOSITIONS: Slot[Decomposition] = Slot(
    "decomposition", __name__, Decomposition, DecompositionOptions
)
