"""Decompositions of features into class- and variation-related parts; ``base.py`` is the interface.

``afa.py`` is the paper's, over the equations of ``ltvr/afa/``; others take its place (Table V).
"""

from ltvr.config.slots import Slot
from ltvr.decompositions.base import Decomposition
from ltvr.decompositions.options import GenerationOptions

__all__ = ["DECOMPOSITIONS"]

DECOMPOSITIONS: Slot[Decomposition] = Slot(
    "decomposition", __name__, Decomposition, GenerationOptions
)
