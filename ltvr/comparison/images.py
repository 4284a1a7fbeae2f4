"""Which images of those that runs are judged on their networks classify correctly."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltvr.comparison.entries import Entry
from ltvr.data.longtail import Int64Array
from ltvr.engine.source import Source, load_source
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError, shown

__all__ = ["Images"]


class Images:
    """The images of a comparison, and what each network makes of them; every one once.

    Args:
        source: where the images are.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, source: Source, device: str) -> None:
        self.source, self.device = source, device
        self._known: dict[Path, tuple[npt.NDArray[np.bool_], Int64Array]] = {}

    def correct(self, entry: Entry, stage: str) -> tuple[npt.NDArray[np.bool_], Int64Array]:
        """Whether each image is classified correctly by the reported weights, and its class.

        Returns:
            [n] of bool, [n] of labels.

        Raises:
            UserError: images that are missing or others than the run's, or no such weights.
        """
        weights = entry.run.weights(stage)
        if not weights.is_file():
            raise UserError(f"{entry.run.lacks(weights)}, or say --no-images")
        if weights not in self._known:
            print(f"{entry.judged_on} images by {shown(weights)}", file=sys.stderr, flush=True)
            trained = load_trained(weights, self.device)
            split = load_source(self.source, trained.run, trained.config)
            batches = trained.batches(split)
            predicted = [trained.outputs(images).logits.argmax(1).numpy() for images, _ in batches]
            self._known[weights] = np.concatenate(predicted) == split.labels, split.labels
        return self._known[weights]
