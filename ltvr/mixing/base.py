"""The interface of mixing: a batch of images and their targets to another."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ltvr.config.options import Options
from ltvr.config.slots import Component
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets

__all__ = ["Mixing"]


class Mixing(Component):
    """Mixes the images of a micro-batch after their augmentation.

    Args:
        options: of the class's own ``options_type``.
    """

    def __init__(self, options: Options) -> None:
        pass

    def mix(
        self, images: Tensor, targets: Targets, counts: Int64Array, random: np.random.Generator
    ) -> tuple[Tensor, Targets]:
        """Mixed images [B, 3, S, S] and their targets, two labels and a share a row;
        or both as they came.

        ``labels`` stay as they came: the synthesis plan was made of them.

        Args:
            images: [B, 3, S, S], augmented and normalised.
            targets: one label a row, on the host.
            counts: [C] the training images of each class.
            random: the only source of random numbers.
        """
        raise NotImplementedError
