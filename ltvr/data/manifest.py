"""The record of exactly which images a run saw."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
from torch import Tensor

from ltvr.config.config import Config
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data, Split

__all__ = ["manifest", "split_record"]


def manifest(data: Data, config: Config) -> dict[str, Any]:
    """Counts, indices and sha256 of every split, to be written as ``manifest.json``.

    The digest covers labels and pixels of images in memory, labels and contents of files on disk.
    Two runs with the same digest saw the same data in the same order, wherever it lay. A run with a
    hold-out has a split ``hold-out`` and none of the name ``test``.
    """
    options = config.of(DataOptions)
    judged_on = options.judged_on
    splits = {"train": data.train, "val": data.val, judged_on: data.test}
    held_out = {
        "holdout": options.holdout,
        "holdout_from": options.holdout_from,
        "holdout_fold": options.holdout_fold,
        "counts": np.bincount(data.test.labels, minlength=len(data.classes)).tolist(),
    }
    return {
        "dataset": options.dataset,
        "imbalance": options.imbalance,
        "imbalance_type": options.imbalance_type,
        "data_seed": options.data_seed,
        "classes": data.classes,
        "train_counts": data.counts.tolist(),
        "ranges": {kind: list(limits) for kind, limits in data.ranges.items()},
        "unreadable": data.unreadable,
        "splits": {
            name: {
                **split_record(split, options),
                "indices": split.indices.tolist() if name in ("train", "hold-out") else None,
            }
            for name, split in splits.items()
            if split is not None
        },
    } | ({"holdout": held_out} if judged_on == "hold-out" else {})


def split_record(split: Split, options: DataOptions) -> dict[str, Any]:
    """Number and sha256 of the images of a split; of files also the digest that 0.1 wrote."""
    labels = hashlib.sha256(split.labels.tobytes())
    if isinstance(split.images, Tensor):
        labels.update(split.images.numpy().tobytes())
        return {"images": len(split), "sha256": labels.hexdigest()}
    contents, names = labels, labels.copy()
    for content, path in zip(split.images.hashes, split.images.paths, strict=True):
        contents.update(content.encode())
        names.update(os.path.relpath(path, options.root).encode(errors="surrogateescape") + b"\n")
    return {
        "images": len(split),
        "sha256": contents.hexdigest(),
        "names_sha256": names.hexdigest(),
    }
