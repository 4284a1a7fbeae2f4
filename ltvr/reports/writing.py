"""A result in several forms, each a file of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ltvr.runs import files

__all__ = ["write_forms"]


def write_forms(path: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write each text to ``path`` with its ending, ``md`` say; return the files.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    written = [path.with_name(f"{path.name}.{ending}") for ending in texts]
    for file, text in zip(written, texts.values(), strict=True):
        files.write(file, text)
    return written
