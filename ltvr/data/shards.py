"""Images in shards of LitData: a few large files in place of many small ones, here or in a bucket.

::

    ROOT/facts/    item 0 is what there is, then one item a split: names, labels, facts; as JSON
    ROOT/train/    item i is the content of image file i, byte for byte
    ROOT/val/, ROOT/test/

Images are read at random, by their position: the order of an epoch is the sampler's, as for files.
From an address (``s3://...``) LitData fetches the bytes of that image alone.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from ltvr.data.files import Found, Stored
from ltvr.data.longtail import Int64Array
from ltvr.data.splits import Data, Files, Split
from ltvr.data.survey import Facts, facts_of
from ltvr.errors import Missing, UserError

__all__ = ["Shards", "find_shards", "require_litdata", "write_shards"]

FORMAT = 1
CHUNK = 64 * 2**20
"""Bytes of a shard."""


@dataclass(frozen=True)
class Shards(Files):
    """Images of one split in shards; ``paths`` are names."""

    folder: str
    rows: Int64Array
    """[n] position of each in the shards."""
    threads: ClassVar[int | None] = 1
    _opened: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By process: a worker must not go on with the open files of its parent."""

    def content(self, index: int) -> bytes:
        """The content of one.

        Raises:
            UserError: it cannot be read.
        """
        stream = self._opened.get(os.getpid())
        if stream is None:
            stream = self._opened[os.getpid()] = _open(self.folder)
        try:
            return bytes(stream[int(self.rows[index])])
        except Exception as error:  # LitData and those below it raise many types
            raise UserError(
                f"image {self.paths.text(index)} cannot be read from the shards in {self.folder} "
                f"({_reason(error)}); check them, or write them anew"
            ) from None

    def take(self, chosen: Int64Array) -> Shards:
        """Return the images at ``chosen``, in that order."""
        hashes = [self.hashes[i] for i in chosen]
        paths, rows = self.paths.take(chosen), self.rows[chosen]
        return Shards(paths, hashes, self.decoder, self.folder, rows)


def require_litdata() -> Any:
    """The package, which is optional.

    Raises:
        UserError: it is not installed.
    """
    try:
        import litdata
    except ImportError:
        raise UserError("shards need LitData: pip install 'ltvr[streaming]'") from None
    return litdata


def _open(folder: str) -> Any:
    """The items in a folder or at an address, by position."""
    litdata = require_litdata()
    is_address = ":" in folder.partition("/")[0]  # s3://..., or local:/... of a shared disk
    if not is_address and not Path(folder, "index.json").is_file():
        raise Missing(f"{folder} has no shards; write them with python -m ltvr.shard")
    try:
        return litdata.StreamingDataset(folder)
    except Exception as error:
        raise UserError(f"the shards in {folder} cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# ---- reading ----


def find_shards(root: str, names: Collection[str]) -> tuple[list[str], dict[str, Found]]:
    """Names of the classes, and the images of the splits of these ``names`` that are in ``root``.

    Raises:
        UserError: LitData is not installed, or there are no shards of this format.
    """
    root = root.rstrip("/")
    facts = _open(f"{root}/facts")
    try:
        contents = json.loads(bytes(facts[0]))
        if contents["format"] != FORMAT:
            raise ValueError(
                f"format {contents['format']}, and this version of ltvr reads {FORMAT}"
            )
        found = {
            name: _found(json.loads(bytes(facts[k])), f"{root}/{name}")
            for k, name in enumerate(contents["splits"], 1)
            if name in names
        }
        return list(contents["classes"]), found
    except Exception as error:
        raise UserError(f"the shards in {root} cannot be read ({_reason(error)})") from None


def _found(split: dict[str, Any], folder: str) -> Found:
    columns = split["facts"]  # of an earlier version there may be fewer
    rows = zip(*columns.values(), strict=True)
    facts = [Facts(**dict(zip(columns, row, strict=True))) for row in rows]
    names = [Path(name) for name in split["names"]]
    if not len(names) == len(split["labels"]) == len(facts):
        raise ValueError("names, labels and facts of different numbers")
    return Found(names, list(split["labels"]), stored=Stored(folder, facts))


# ---- writing ----


def write_shards(data: Data, folder: Path, root: str) -> dict[str, int]:
    """Write the images of all splits as shards.

    Args:
        data: images on disk, or of a data set that is built in, which become PNG.
        folder: missing or empty. The facts come last: without them it is not taken for shards.
        root: what the names of the images are below.

    Returns:
        The number of images in each split.

    Raises:
        UserError: LitData is not installed, the folder is not empty, or an image cannot be read.
    """
    require_litdata()
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name another folder")
    splits = {"train": data.train, "val": data.val, "test": data.test}
    present = {name: split for name, split in splits.items() if split is not None}
    contents = {"format": FORMAT, "splits": list(present), "classes": data.classes}
    facts = [json.dumps(contents).encode()]
    for name, split in present.items():
        written: list[Facts] = []
        names = _names(split, data.classes, root)
        _write(folder / name, _contents(split, names, written))
        columns = {f.name: [getattr(each, f.name) for each in written] for f in fields(Facts)}
        described = {"names": names, "labels": split.labels.tolist(), "facts": columns}
        facts.append(json.dumps(described).encode())
    _write(folder / "facts", iter(facts))
    return {name: len(split) for name, split in present.items()}


def _write(folder: Path, items: Iterator[bytes]) -> None:
    from litdata.streaming import Cache

    folder.mkdir(parents=True)
    cache = Cache(str(folder), chunk_bytes=CHUNK)
    for index, item in enumerate(items):
        cache[index] = item
    cache.done()
    cache.merge()


def _names(split: Split, classes: list[str], root: str) -> list[str]:
    if len(split.paths):
        return [os.path.relpath(path, root) for path in split.paths]
    numbers = zip(split.labels, split.indices, strict=True)
    return [f"{classes[label]}/{index:06d}.png" for label, index in numbers]


def _contents(split: Split, names: list[str], written: list[Facts]) -> Iterator[bytes]:
    """The content of each image; what is found of it is added to ``written``."""
    images = split.images
    for index, name in enumerate(names):
        content = _png(images[index]) if isinstance(images, Tensor) else images.content(index)
        facts = facts_of(content, Path(name))
        if facts.problem:  # it could be read when the data set was loaded
            raise UserError(facts.problem)
        written.append(facts)
        yield content


def _png(image: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(file, "PNG")
    return file.getvalue()
