"""The record of exactly which images a run saw."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from ltvr.config.config import Config
from ltvr.data.datasets import Data, Split
from ltvr.data.options import DataOptions

__all__ = ["manifest"]


def manifest(data: Data, config: Config) -> dict[str, Any]:
    """Counts, indices and sha256 of every split, to be written as ``manifest.json``.

    The digest covers labels and pixels of images in memory, labels and paths (below ``root``) of
    images on disk. Two runs with the same digest saw the same data in the same order.
    """
    options = config.of(DataOptions)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {
        "dataset": options.dataset,
        "imbalance": options.imbalance,
        "imbalance_type": options.imbalance_type,
        "data_seed": options.data_seed,
        "classes": data.classes,
        "train_counts": data.counts.tolist(),
        "splits": {
            name: {
                "images": len(split),
                "sha256": _digest(split, Path(options.root)),
                "indices": split.indices.tolist() if name == "train" else None,
            }
            for name, split in splits.items()
            if split is not None
        },
    }


def _digest(split: Split, root: Path) -> str:
    digest = hashlib.sha256(split.labels.tobytes())
    if isinstance(split.images, Tensor):
        digest.update(split.images.numpy().tobytes())
    else:
        for path in split.images:
            digest.update(os.path.relpath(path, root).encode() + b"\n")
    return digest.hexdigest()
