"""Classifiers, one file each: embeddings to logits; ``base.py`` is the interface."""

from ltvr.classifiers.base import Classifier
from ltvr.config.slots import Slot

__all__ = ["CLASSIFIERS"]

CLASSIFIERS: Slot[Classifier] = Slot("classifier", __name__, Classifier)
