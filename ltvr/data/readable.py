"""From files that were found to images that can be trained on, and what to say of the rest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltvr.data.files import Found
from ltvr.data.geometry import describe
from ltvr.data.images import Decoder
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.paths import Paths
from ltvr.data.shards import Shards
from ltvr.data.splits import Files, Ranges, Split, square
from ltvr.data.survey import Facts, survey
from ltvr.errors import UserError

__all__ = ["IN_MEMORY_PIXELS", "Readable", "readable", "resizing"]

IN_MEMORY_PIXELS = 64
"""Images of files are kept in memory up to this side; larger ones are read by workers."""
SMALL, MUCH_LARGER = 112, 3
"""Images of fewer pixels than the one, from some the other times as large, lose much."""


@dataclass(frozen=True)
class Readable:
    """The images of a split that can be read, before their pixels are."""

    paths: list[Path]
    labels: Int64Array
    facts: list[Facts]
    unreadable: dict[str, str]
    """Paths of the others, and why."""
    notes: list[str]
    """What was passed over, cannot be read, or is used in part, a line each."""
    folder: str
    """That of their shards, where they are in shards; or empty."""
    rows: Int64Array
    """[n] positions among all that were found, and in the shards."""

    def load(self, chosen: Int64Array, decoder: Decoder, options: DataOptions) -> Split:
        """The samples at ``chosen``, in memory if they are small."""
        hashes = [facts.sha256 for facts in self.facts]
        if self.folder:
            files: Files = Shards(Paths(self.paths), hashes, decoder, self.folder, self.rows)
        else:
            files = Files(Paths(self.paths), hashes, decoder)
        images: Tensor | Files = (files := files.take(chosen))
        if options.image_size <= IN_MEMORY_PIXELS:
            with ThreadPoolExecutor(files.threads) as pool:
                read = pool.map(lambda i: square(files.read(i), options), range(len(files)))
                images = torch.stack(list(read))
        return Split(images, self.labels[chosen], chosen, files.paths, self.notes)

    def load_all(self, decoder: Decoder, options: DataOptions) -> Split:
        """All samples."""
        return self.load(np.arange(len(self.paths), dtype=np.int64), decoder, options)


def readable(
    name: str, found: Found, options: DataOptions, ranges: Ranges | None = None
) -> Readable:
    """What can be read of the files that were found.

    Args:
        name: of the split, for its notes.
        ranges: of the training images of more than 8 bits; None for the training images.

    Raises:
        UserError: one that cannot be read, unless such are to be skipped.
    """
    facts = survey(found.images) if found.stored is None else found.stored.facts
    problems: dict[int, str] = {}
    for i, (path, each) in enumerate(zip(found.images, facts, strict=True)):
        problem = each.problem
        if not problem and ranges is not None and each.kind:
            problem = Decoder(ranges=ranges).refusal(path, each.kind)
        if problem:
            problems[i] = problem
    if problems and options.bad_images == "error":
        raise UserError(
            f"{next(iter(problems.values()))} ({len(problems)} of {len(facts)} images cannot be "
            "read; --bad-images skip leaves them out)"
        )
    kept = [i for i in range(len(facts)) if i not in problems]
    if not kept:
        raise UserError(f"no image can be read: {next(iter(problems.values()))}")
    notes = [f"passed over {found.summary()}"] if found.skipped else []
    if problems:
        first = next(iter(problems.values()))
        notes.append(f"skipped {len(problems)} unreadable, first: {first}")
    if frames := sum(facts[i].frames > 1 for i in kept):
        notes.append(f"{frames} images have several frames; the first is used")
    if holes := sum(facts[i].not_finite > 0 for i in kept):
        notes.append(f"{holes} images have pixels that are not a finite number; nan becomes black")
    return Readable(
        [found.images[i] for i in kept],
        np.asarray(found.labels, np.int64)[kept],
        [facts[i] for i in kept],
        {str(found.images[i]): problem for i, problem in problems.items()},
        [f"{name}: {note}" for note in notes],
        "" if found.stored is None else found.stored.folder,
        np.asarray(kept, np.int64),
    )


def resizing(facts: list[Facts], options: DataOptions) -> list[str]:
    """What becomes of images of this size, and a warning where little is left of them."""
    width, height = (int(np.median([getattr(f, n) for f in facts])) for n in ("width", "height"))
    size = options.image_size
    if (width, height) == (size, size):
        return []
    said = f"images of {width} x {height} pixels (median) are {describe(size, options.resize)}"
    if size < SMALL and min(width, height) >= MUCH_LARGER * size:
        said += (
            "; so little may not tell the classes apart: raise --image-size, or take a preset for "
            "photographs such as imagenet-lt"
        )
    return [said]
