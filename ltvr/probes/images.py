"""The images that linear probes train on: as many of each class, wherever there are so many."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ltvr.clock import stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.datasets import load_data
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data, Split

__all__ = ["USUAL", "USUAL_IN_ALL", "ProbeImages", "probe_images", "usual_number"]

USUAL, USUAL_IN_ALL = 500, 10_000
"""Images of each class, and of all, at most: of more a probe takes hours."""


class ProbeImages(NamedTuple):
    """Images of a linear probe."""

    split: Split
    seen: Int64Array
    """[C] of each class, those that the network was trained on."""

    @property
    def described(self) -> dict[str, Any]:
        """In terms of JSON."""
        number = np.bincount(self.split.labels, minlength=len(self.seen))
        return {"images": number.tolist(), "of_them_seen_in_training": self.seen.tolist()}


def usual_number(classes: int) -> int:
    """Images of each class, where no number is asked for."""
    return min(USUAL, max(1, USUAL_IN_ALL // classes))


def probe_images(config: Config, data: Data, per_class: int) -> ProbeImages:
    """The images that a linear probe trains on.

    Where the long-tailed subset leaves images out, ``per_class`` of each class, or as many of each
    as the smallest class has in all: first those that the network has never seen, then, of a class
    with too few of them, its training images. No judged image is among them, by its content. Else
    the training images of the run, at most ``per_class`` of each class.

    Args:
        config: of the run, with the places where its images are now.
        data: of the run.
    """
    counts = data.counts
    random = np.random.default_rng(stream(config.of(RunOptions).seed, "probe"))
    if not data.left_out:
        of_class = (np.flatnonzero(data.train.labels == c) for c in range(len(counts)))
        own = np.sort(np.concatenate([random.permutation(each)[:per_class] for each in of_class]))
        return ProbeImages(data.train.take(own), np.minimum(counts, per_class))
    whole = _whole(config)
    judged = set(contents(data.test))
    if data.val is not None:
        judged |= set(contents(data.val))
    seen_before = set(contents(data.train))
    found = contents(whole)
    usable = np.asarray([content not in judged for content in found])
    seen = np.asarray([content in seen_before for content in found])
    available = np.bincount(whole.labels[usable], minlength=len(counts))
    number = min(per_class, int(available.min()))
    chosen = []
    for c in range(len(counts)):
        members = random.permutation(np.flatnonzero(usable & (whole.labels == c)))
        chosen.append(members[np.argsort(seen[members], kind="stable")][:number])
    order = np.sort(np.concatenate(chosen))
    return ProbeImages(
        whole.take(order), np.bincount(whole.labels[order[seen[order]]], minlength=len(counts))
    )


def _whole(config: Config) -> Split:
    """All training images of the data set, but for one of each class of a run with a hold-out.

    Such a run never reads the test set: a hold-out, the smallest, stands in its place here, too.
    """
    held = {"holdout": 1.0, "holdout_from": "train"} if config.of(DataOptions).holdout else {}
    return load_data(config.replaced(imbalance=1.0, **held)).train


def contents(split: Split) -> list[str]:
    """The sha256 of each image: of its pixels in memory, of the content of its file else."""
    if not isinstance(split.images, Tensor):
        return split.images.hashes
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images.numpy()]
