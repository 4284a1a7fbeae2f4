"""Where images in files are, and whether those that a run read are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ltvr.config.config import Config
from ltvr.data.built_in import BUILT_IN
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.errors import OtherImages
from ltvr.runs.folder import Run

__all__ = ["other_images", "places_of_images"]


def places_of_images(config: Config) -> dict[str, str]:
    """Where images in files are, by option; empty for a data set that comes with its name."""
    options = config.of(DataOptions)
    if options.dataset in BUILT_IN:
        return {}
    places = {"root": options.root, "lists": options.lists or options.root}
    return {name: str(Path(place).resolve()) for name, place in places.items()}


def other_images(run: Run, config: Config) -> str:
    """Say that a run has other images than a configuration names; empty if it has the same.

    Where both name one place it is taken that nothing has changed there. Of another place the
    images are read, once a process, and held to those that the run recorded: runs and images may
    be moved.

    Raises:
        UserError: images that are not at the place that the configuration names.
    """
    wanted = places_of_images(config)
    if places_of_images(run.config()) == wanted:
        return ""
    try:
        run.check_manifest(_read(_Asked(config.of(DataOptions), config)))
    except OtherImages:
        return f"its images are not those in {' and '.join(dict.fromkeys(wanted.values()))}"
    return ""


@dataclass(frozen=True)
class _Asked:
    """A configuration, equal to any other that names the same images."""

    options: DataOptions
    config: Config = field(compare=False)


@cache
def _read(asked: _Asked) -> dict[str, Any]:
    return manifest(load_data(asked.config), asked.config)
