"""Ways of mixing the images of a batch, one file each; ``base.py`` is the interface."""

from ltvr.config.slots import Slot
from ltvr.mixing.base import Mixing

__all__ = ["MIXINGS"]

MIXINGS: Slot[Mixing] = Slot("mixing", __name__, Mixing)
