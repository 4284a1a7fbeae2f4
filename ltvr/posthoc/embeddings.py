"""Embeddings of a run's images, kept on the disk batch by batch as they are made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltvr import distributed
from ltvr.clock import stream
from ltvr.config.options import options_of
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batch, Batches
from ltvr.data.longtail import Int64Array
from ltvr.data.splits import Split
from ltvr.engine.progress import progress
from ltvr.engine.trained import Trained
from ltvr.errors import UserError
from ltvr.runs import files
from ltvr.runs.origin import not_compared
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["Embeddings", "EmbeddingCache", "identity_of", "key_of"]

FORMAT = 1
"""Of the files that are kept; others are made anew."""


@dataclass(frozen=True)
class Embeddings:
    """What the classifier reads of the images of a split."""

    embeddings: Tensor
    """[n, E] float32, of the images as inference sees them."""
    labels: Tensor
    """[n] int64, on the host."""
    views: Tensor
    """[V, n, E], of the same images augmented V times; or once ``embeddings``."""

    def take(self, rows: Int64Array) -> Embeddings:
        """The images at ``rows``, in that order."""
        chosen = torch.from_numpy(rows)
        return Embeddings(self.embeddings[chosen], self.labels[chosen], self.views[:, chosen])


def key_of(value: Any) -> str:
    """The sha256 of ``value`` as JSON, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def identity_of(trained: Trained) -> dict[str, Any]:
    """All that decides the embeddings of a run's images, in terms of JSON.

    The sha256 of the weights and of the images of each split, and the options of images, network
    and run, but for those that say only where images are and how they are read.
    """
    config = trained.config
    of_training = {TrainingOptions, *(s.options_type for s in stages_of(config).values())}
    values, passed_over = config.flat(), not_compared(config)
    options = {
        option.name: values[option.name]
        for kind in config.in_use
        if kind not in of_training
        for option in options_of(kind)
        if option.name not in passed_over
    }
    splits = trained.run.manifest()["splits"]
    identity = {
        "format": FORMAT,
        "weights": _weights(trained.network.state_dict()),
        "images": {name: split["sha256"] for name, split in splits.items()},
        "options": options,
        "device": trained.device.type,
        "torch": str(torch.__version__),
    }
    known: dict[str, Any] = json.loads(json.dumps(identity))  # a tuple is a list there
    return known


def _weights(state: dict[str, Tensor]) -> str:
    """The sha256 of weights: of names, types, shapes and values."""
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        found.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class EmbeddingCache:
    """A folder of embeddings, a file a batch, each whole or not there.

    Whatever ends the process costs the batch that it was at. A file that is damaged is made again,
    and all of them where they are of other weights, images or options.

    Args:
        folder: that holds the files; made if it is not there.
        identity: of ``identity_of``.
        say: what prints a line.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        described = folder / "identity.json"
        known = None
        try:
            folder.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError, ValueError, RecursionError):
                known = json.loads(described.read_bytes())
            for path in folder.iterdir():
                if known != identity or path.suffix == files.PARTIAL:
                    path.unlink()
        except OSError as error:
            raise files.cannot_write(folder, error) from None
        if known == identity:
            return
        if isinstance(known, dict):
            changed = [name for name in identity if known.get(name) != identity[name]]
            say(f"the embeddings in {folder} are of other {', '.join(changed)}: made anew")
        files.write(described, json.dumps(identity, indent=1) + "\n")

    def embed(self, trained: Trained, split: Split, name: str, view: int | None = None) -> Tensor:
        """The embeddings of a split [n, E], on the host: what is kept of them, and then the rest.

        Several ranks share what is missing; each returns all.

        Args:
            name: of the split, for the names of the files.
            view: which augmentation, as in training; None is none, as in evaluation.

        Raises:
            UserError: what another rank has made is not there for this one.
        """
        size = trained.config.of(RunOptions).eval_batch_size
        part = name if view is None else f"{name}-view{view}"
        rows = [min(size, len(split) - first) for first in range(0, len(split), size)]
        paths = [self.folder / f"{part}-{number:05d}.npz" for number in range(len(rows))]
        found = [self._read(path, number) for path, number in zip(paths, rows, strict=True)]
        distributed.barrier()  # all have read, and so find the same missing
        missing = [number for number, each in enumerate(found) if each is None]
        if missing:
            share = distributed.share_of(len(rows) - missing[0], 1)
            own = range(missing[0] + share.start, missing[0] + share.stop)
            batches = _batches(trained, split, view, own)
            shown = progress(batches, part, own.start * size, min(own.stop * size, len(split)))
            for number, (images, _) in zip(own, shown, strict=True):
                if found[number] is None:
                    made = trained.outputs(images).embeddings[: rows[number]].contiguous()
                    _write(paths[number], made)
                    found[number] = made
            distributed.barrier()
            for number in missing:  # by other ranks
                if found[number] is None:
                    found[number] = self._read(paths[number], rows[number])
        whole = [each for each in found if each is not None]
        if len(whole) < len(found):
            absent = next(path for path, each in zip(paths, found, strict=True) if each is None)
            raise UserError(
                f"another rank has made {absent}, and it is not there for this one; put the run "
                "where all machines see it, and start the same command again"
            )
        return torch.cat(whole)

    def _read(self, path: Path, rows: int) -> Tensor | None:
        """A file that is kept; None where there is none, or not what was written."""
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file) as archive:
                found = archive["embeddings"]
            if found.dtype == np.float32 and found.ndim == 2 and len(found) == rows:
                return torch.from_numpy(found)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            pass
        self.say(f"{path} is damaged: made anew")
        return None


def _write(path: Path, embeddings: Tensor) -> None:
    with files.replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, embeddings=embeddings.numpy())  # a zip archive, which holds checksums


def _batches(trained: Trained, split: Split, view: int | None, own: range) -> Iterator[Batch]:
    """The batches of a split with numbers in ``own``, as inference sees them, or augmented.

    Batches of training are full: the last ends with the first images.
    """
    options = trained.config.of(RunOptions)
    size = options.eval_batch_size
    batches = Batches(split, trained.config, trained.device)
    if view is None:
        return batches.evaluate(size, range(own.start * size, min(own.stop * size, len(split))))
    order = np.resize(np.arange(len(split)), own.stop * size)
    seed = stream(options.seed, "heads")
    return batches.train(order, size, seed=seed, epoch=view, start=own.start)
