"""The linear classifier."""

from __future__ import annotations

from torch import nn

from ltvr.classifiers.base import Classifier
from ltvr.config.options import Options

__all__ = ["Linear"]


class Linear(nn.Linear, Classifier):
    """z_c = <w_c, x> + b_c, with PyTorch's own initialisation."""

    def __init__(self, options: Options, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes)
