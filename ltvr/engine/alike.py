"""Ranks that are not alike are refused, before any of them waits for another."""

from __future__ import annotations

from typing import Any

from ltvr import distributed
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.device import choose_device
from ltvr.errors import UserError, brief

__all__ = ["require_the_same_images", "require_the_same_options"]

MAY_DIFFER_BETWEEN_RANKS = ("root", "lists", "workers")
"""Options that a machine may have of its own."""


def require_the_same_options(config: Config) -> None:
    """Refuse options of a rank that are not those of the first, as of another command.

    Raises:
        UserError: the first that differs, and both values.
    """
    device = choose_device(config.of(RunOptions).device).type
    own = {**config.flat(), "device": device}
    for name, of_first in distributed.from_first(own).items():
        if name not in MAY_DIFFER_BETWEEN_RANKS and own[name] != of_first:
            raise UserError(
                f"{name} = {brief(own[name])} on this rank and {brief(of_first)} on the first; "
                "give every machine the same command, presets and methods, and kind of device"
            )


def require_the_same_images(described: dict[str, Any]) -> None:
    """Refuse images of a rank that are not those of the first, as of a disk of its own.

    Args:
        described: the manifest of the images of this rank.

    Raises:
        UserError: the split that differs.
    """
    own = {name: split["sha256"] for name, split in described["splits"].items()}
    for name, digest_of_first in distributed.from_first(own).items():
        if own.get(name) != digest_of_first:
            raise UserError(
                f"the {name} images of this rank are not those of the first (sha256); give every "
                "machine the same ones"
            )
