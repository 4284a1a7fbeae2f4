"""The order of training samples, one sampler a file; ``base.py`` is the interface."""

from ltvr.config.slots import Slot
from ltvr.samplers.base import Sampler

__all__ = ["SAMPLERS"]

SAMPLERS: Slot[Sampler] = Slot("sampler", __name__, Sampler)
