"""What is known of image files before training: contents, sizes, kinds, which cannot be read.

Every file is read and decoded once, in parallel: none is found to be corrupt hours later. What was
found is kept between runs: a file is read again where its size, times or inode differ, or where
another version of Pillow is to read it, or other formats are.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from ltvr.data.images import (
    Decoder,
    content_of,
    deep_kind,
    deep_values,
    formats,
    open_image,
    unreadable,
)
from ltvr.errors import UserError

__all__ = ["Facts", "facts_of", "ranges_of", "survey"]

VERSION = 3
"""Of what is kept: to be raised when the rules of ``ltvr.data.images`` change what is found."""
PATIENCE = 0.5
"""Seconds to wait for another process that keeps facts, before nothing more is kept."""
EVERY = 1.0
"""Seconds between two writes: one waits for the disk, which takes longer than many images."""
SETTLED = 2.0
"""Seconds that a file must have rested for its times to tell a later change."""


@dataclass(frozen=True)
class Facts:
    """What is known of one image file."""

    sha256: str = ""
    """Of its content; empty where it cannot be read at all."""
    width: int = 0
    height: int = 0
    """In pixels, as stored: EXIF may turn them."""
    mode: str = ""
    """Pillow's name of what a pixel is."""
    frames: int = 1
    kind: str = ""
    """``uint16``, ``int32`` or ``float32`` for a grey picture of more than 8 bits."""
    low: float = 0.0
    high: float = 0.0
    """Smallest and largest value of such a picture."""
    not_finite: int = 0
    """Its pixels that are not a finite number."""
    problem: str = ""
    """Why it cannot be read; empty for none that was found."""


NO_FACTS = Facts()


def survey(files: Iterable[str | Path]) -> list[Facts]:
    """Facts on every file, in order; a bar shows the progress if stderr is a terminal."""
    paths = [Path(file) for file in files]
    stamps = [_stamp(path) for path in paths]
    with _Kept() as kept:
        found = [kept.get(*each) for each in zip(paths, stamps, strict=True)]
        unknown = [i for i, facts in enumerate(found) if facts is None]
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda i: _facts(paths[i]), unknown)
            bar = tqdm(
                read,
                desc="reading images once",
                total=len(unknown),
                leave=False,
                disable=not unknown or sys.stderr is None or not sys.stderr.isatty(),
            )
            for i, facts in zip(unknown, bar, strict=True):
                found[i] = facts
                if not facts.problem and _rested(stamps[i]):
                    kept.put(paths[i], stamps[i], facts)
    return [facts for facts in found if facts is not None]


def ranges_of(facts: Sequence[Facts]) -> dict[str, tuple[float, float]]:
    """Of each kind of deep picture, the smallest and the largest value in all of them."""
    kinds = {f.kind for f in facts if f.kind and not f.problem}
    return {
        kind: (
            min(f.low for f in facts if f.kind == kind and not f.problem),
            max(f.high for f in facts if f.kind == kind and not f.problem),
        )
        for kind in sorted(kinds)
    }


def _facts(path: Path) -> Facts:
    try:
        return facts_of(content_of(path), path)
    except UserError as error:
        return Facts(problem=str(error))


def facts_of(content: bytes, path: Path) -> Facts:
    """Facts on a file of this content; ``path`` is for what is said of it."""
    facts = Facts()
    try:
        facts = Facts(sha256=hashlib.sha256(content).hexdigest())
        with open_image(content, path) as image:
            described = replace(
                facts,
                width=image.width,
                height=image.height,
                mode=image.mode,
                frames=getattr(image, "n_frames", 1),
                kind=deep_kind(image),
            )
            if described.kind:
                values = deep_values(image)
                finite = values[np.isfinite(values)]
                if not finite.size:
                    raise UserError(f"image {path} has no value that is a finite number")
                described = replace(
                    described,
                    low=float(finite.min()),
                    high=float(finite.max()),
                    not_finite=values.size - finite.size,
                )
        # By its own range, if it is of more than 8 bits: that of all pictures is not known yet.
        Decoder(ranges={described.kind: (described.low, described.high)}).decode(content, path)
        return described
    except UserError as error:
        return replace(facts, problem=str(error))
    except Exception as error:  # Pillow's decoders raise many types
        return replace(facts, problem=str(unreadable(path, error)))


# ---- what is kept between runs ----

Stamp = tuple[int, int, int, int]
"""Size, times of content and of inode in nanoseconds, inode: a change of content changes it."""


def _stamp(path: Path) -> Stamp | None:
    try:
        s = os.stat(path)
    except (OSError, ValueError):
        return None
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino


def _rested(stamp: Stamp | None) -> bool:
    return stamp is not None and max(stamp[1:3]) < time.time_ns() - SETTLED * 1e9


class _Kept:
    """Facts of earlier runs, in the user's cache folder.

    Where that folder cannot be written, or another process holds the file for long, nothing is
    kept, and every file is read again.
    """

    def __enter__(self) -> _Kept:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltvr"
        self._base: sqlite3.Connection | None = None
        self._waiting: list[tuple[bytes, str]] = []
        self._written = time.monotonic()
        with suppress(OSError, sqlite3.Error, RuntimeError):  # RuntimeError: there is no home
            folder.mkdir(parents=True, exist_ok=True)
            base = sqlite3.connect(folder / _file(), timeout=PATIENCE)
            base.execute("CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, value TEXT)")
            self._base = base
        return self

    def get(self, path: Path, stamp: Stamp | None) -> Facts | None:
        """What is known of a file, if it is as it was."""
        if self._base is None or stamp is None:
            return None
        with suppress(sqlite3.Error, ValueError, TypeError, RecursionError):
            row = self._base.execute("SELECT value FROM files WHERE path = ?", (_key(path),))
            for (value,) in row:
                known, values = json.loads(value)
                facts = Facts(**values)
                right = all(type(v) is type(getattr(NO_FACTS, k)) for k, v in vars(facts).items())
                return facts if right and tuple(known) == stamp and not facts.problem else None
        return None

    def put(self, path: Path, stamp: Stamp | None, facts: Facts) -> None:
        """Keep what was found of a file; those of a second are written together."""
        self._waiting.append((_key(path), json.dumps([stamp, asdict(facts)])))
        if time.monotonic() > self._written + EVERY:
            self._write()

    def _write(self) -> None:
        rows, self._waiting, self._written = self._waiting, [], time.monotonic()
        if self._base is None or not rows:
            return
        try:
            with self._base:  # committed at once: no other process waits for this one
                self._base.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", rows)
        except sqlite3.Error:
            self._base.close()
            self._base = None

    def __exit__(self, *_: object) -> None:
        self._write()
        if self._base is not None:
            self._base.close()


def _file() -> str:
    """Where facts are kept: an environment that reads other pictures has its own."""
    known = zlib.crc32(" ".join((PIL.__version__, *formats())).encode())
    return f"images-{VERSION}-{known:08x}.sqlite"


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))
