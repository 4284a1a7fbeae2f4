"""The embeddings that heads are fitted to, chosen on and tested on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ltvr.clock import stream
from ltvr.config.run import RunOptions
from ltvr.data.holdout import part_of_each_class
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.engine.trained import Trained
from ltvr.posthoc.embeddings import EmbeddingCache, Embeddings

__all__ = ["Images", "load_images", "views_of_epochs"]

MOST_VIEWS = 10
MOST_BYTES = 2_000_000_000
"""Of all augmented views together, unless so many are asked for."""


class Images(NamedTuple):
    """Images as the classifier reads them, by what they are for."""

    train: Embeddings
    """All training images; a head is fitted to these at last."""
    test: Embeddings
    """The images that the run is judged on."""
    fitted: Embeddings
    """What heads are fitted to while a value is chosen: without ``choice``."""
    choice: Embeddings
    """What a value is chosen on."""
    described: dict[str, Any]
    """How they came about, in terms of JSON."""

    @property
    def seen(self) -> bool:
        """Whether the features were trained on the images that values are chosen on."""
        chosen_on: str = self.described["chosen_on"]
        return chosen_on == "hold-out"


def load_images(
    trained: Trained,
    data: Data,
    cache: EmbeddingCache,
    *,
    epochs: int,
    views: int | None,
    per_class: int,
) -> Images:
    """Embed the images of a run, or read what is kept of that; they go to its device.

    Values are chosen on the validation split, or else on a hold-out of the training images.

    Args:
        data: of the run.
        epochs: of the longest training of a head; 0 where none is trained.
        views: augmented views of each training image; None for as many as ``views_of_epochs``.
        per_class: images of a class in the hold-out, at most.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
        UserError: an image that cannot be read.
    """
    judged_on = trained.config.of(DataOptions).judged_on
    splits = {judged_on: data.test, "train": data.train}
    if data.val is not None:
        splits["val"] = data.val
    plain = {name: cache.embed(trained, split, name) for name, split in splits.items()}
    if views is None:
        augmented = trained.config.of(DataOptions).augmentation != "none"
        views = views_of_epochs(epochs, plain["train"].numel() * 4) if augmented else 0
    seen = [cache.embed(trained, data.train, "train", view) for view in range(views)]

    def embedded(name: str) -> Embeddings:
        place = plain[name].to(trained.device)
        labels = torch.from_numpy(splits[name].labels)
        own = torch.stack(seen).to(trained.device) if seen and name == "train" else place[None]
        return Embeddings(place, labels, own)

    train, test = embedded("train"), embedded(judged_on)
    if data.val is not None:
        described = {"views": views, "chosen_on": "val", "images": len(data.val)}
        return Images(train, test, train, embedded("val"), described)
    labels = data.train.labels
    seed = stream(trained.config.of(RunOptions).seed, "hold-out")
    held = part_of_each_class(labels, per_class, seed)
    rest = np.setdiff1d(np.arange(len(labels)), held)
    described = {"views": views, "chosen_on": "hold-out", "images": len(held)}
    described["per_class"] = per_class
    return Images(train, test, train.take(rest), train.take(held), described)


def views_of_epochs(epochs: int, size: int) -> int:
    """How many views a training of so many epochs is given: one each, if they are not too many.

    Args:
        size: bytes of a view.
    """
    return min(epochs, MOST_VIEWS, max(1, MOST_BYTES // max(size, 1)))
