"""The interface of a weighting: the images of each class to its weight in the loss."""

from __future__ import annotations

from torch import Tensor

from ltvr.config.options import Options
from ltvr.config.slots import Component

__all__ = ["Weighting"]


class Weighting(Component):
    """How much a row counts in the loss, by its class; goes with any loss.

    Args:
        options: of the class's own ``options_type``.
    """

    def __init__(self, options: Options) -> None:
        pass

    def weights(self, counts: Tensor) -> Tensor:
        """u_c, of mean 1: [C] float64.

        Args:
            counts: [C] int64, the training images of each class, at least 1.
        """
        raise NotImplementedError
