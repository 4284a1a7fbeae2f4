"""Which images a command on a trained run takes, and where they are now."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ltvr.config.command_line import Parser
from ltvr.config.config import Config
from ltvr.data.datasets import load_data, load_labelled, load_split
from ltvr.data.layouts import LISTS, SPLITS
from ltvr.data.manifest import manifest, split_record
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data, Split
from ltvr.errors import Missing, OtherImages, UserError
from ltvr.runs.folder import Run

__all__ = [
    "Source",
    "add_places",
    "add_source",
    "load_own",
    "load_source",
    "moved",
    "places_of",
    "source_of",
]

NAMES_TO_SHOW = 10


def add_places(p: Parser) -> None:
    """Add the arguments that ``places_of`` reads."""
    p.add_argument("--root", metavar="FOLDER", help="where the images of RUN are now")
    p.add_argument("--lists", metavar="FOLDER", help="where the list files of RUN are now")


def places_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Where the images, and lists, of a run are now: what was said of it, by option."""
    places = {name: getattr(arguments, name) for name in ("root", "lists")}
    return {name: place for name, place in places.items() if place is not None}


def moved(config: Config, places: Mapping[str, Any]) -> Config:
    """A configuration whose images, and lists, are at other places now.

    Args:
        places: of the options ``root`` and ``lists``, by name.

    Raises:
        UserError: one that the data set does not have.
    """
    dataset = config.of(DataOptions).dataset
    has = {"root": dataset != "digits", "lists": dataset in LISTS}
    for name in places:
        if not has.get(name, True):
            raise UserError(f"--{name} changes nothing for {dataset}; leave it out")
    return config.replaced(**places)


class Source(NamedTuple):
    """Images of known classes: a split of a run's data set, or others."""

    split: str | None = None
    """None for what the run is judged on: the test set, or its hold-out."""
    data: Path | None = None
    """A folder of ``<class>/<image>`` or a list, in place of the split."""
    changes: dict[str, Any] = {}
    """Of the options of the run: where its images are, what is done with bad ones."""

    def name(self, options: DataOptions) -> str:
        """The split of a run with these options, or ``data`` for other images."""
        return "data" if self.data is not None else self.split or options.judged_on


def add_source(p: Parser) -> None:
    """Add the arguments that ``source_of`` reads, but for the images of its own."""
    p.add_argument(
        "--split",
        choices=("test", "hold-out", "val", "train"),
        help="of the run's data set (hold-out of a run that has one, otherwise test)",
    )
    add_places(p)
    p.add_argument(
        "--bad-images",
        choices=("error", "skip"),
        help="if there are images that cannot be read: stop, or leave them out (as the run)",
    )


def source_of(arguments: argparse.Namespace, data: Path | None) -> Source:
    """The images that the arguments of a command ask for.

    Args:
        data: images that are asked for in place of the run's own.

    Raises:
        UserError: arguments that do not go together, or other images that are not there.
    """
    changes: dict[str, Any] = {**places_of(arguments)}
    if arguments.bad_images is not None:
        changes["bad_images"] = arguments.bad_images
    if data is not None:
        if arguments.split is not None or arguments.lists is not None:
            other = "--split" if arguments.split is not None else "--lists"
            raise UserError(f"{other} is of the run's own images; leave it or --data out")
        if not os.path.isdir(data) and not os.path.isfile(data):
            what = "is missing" if not os.path.lexists(data) else "is no folder and no file"
            raise UserError(f"--data {data} {what}; expected a folder of classes, or a list")
        if data.is_dir() and arguments.root is not None:
            raise UserError("--root is for lists, and --data is a folder; leave it out")
    return Source(arguments.split, data, changes)


def load_own(run: Run, config: Config) -> Data:
    """Load the data set of a run.

    Args:
        config: of the run, with the places where its images and lists are now.

    Raises:
        UserError: images that are missing, or that are others than the run began with.
    """
    with _hint(f"if the images have moved: {_place_options(config)}", Missing):
        data = load_data(config)
    run.check_manifest(manifest(data, config))
    return data


def load_source(source: Source, run: Run, config: Config) -> Split:
    """Load the images that a run is to be evaluated on, and no others.

    Raises:
        UserError: images that are missing, that do not fit the run's classes, or that are others
            than the run's split had.
    """
    if source.data is None:
        config = moved(config, source.changes)
    else:  # these are not the run's own
        config = config.replaced(**source.changes)
    described = run.manifest()
    classes, ranges, options = described["classes"], run.ranges(), config.of(DataOptions)
    if source.data is not None:
        _check_folder(source.data, classes)
        root = source.changes.get("root")  # not that of the run
        split = load_labelled(
            source.data, config, classes, ranges, None if root is None else Path(root)
        )
        digest = split_record(split, options)["sha256"]
        same = [name for name, own in described["splits"].items() if own["sha256"] == digest]
        split.notes.append(
            f"these are the {same[0]} images of {run.folder}"
            if same
            else f"{len(split)} images that are no split of {run.folder}"
        )
        absent = [name for k, name in enumerate(classes) if not (split.labels == k).any()]
        if absent:
            number = "1 class" if len(absent) == 1 else f"{len(absent)} classes"
            more = ", ..." if len(absent) > NAMES_TO_SHOW else ""
            named = ", ".join(absent[:NAMES_TO_SHOW])
            split.notes.append(f"no images of: {named}{more} ({number})")
        return split
    others = "or evaluate other images with --data" if "root" in source.changes else ""
    name = source.name(options)
    if name == "hold-out" and not options.holdout:
        raise UserError(f"{run.folder} has no hold-out; use --split test")
    with _hint(others, OtherImages):
        if name in ("train", "hold-out"):
            own = load_own(run, config)
            return own.train if name == "train" else own.test
        with _hint(f"if the images have moved: {_place_options(config)}", Missing):
            found = load_split(config, name, classes, ranges)
        if found is None:
            raise UserError(f"{options.dataset} has no {name} split; use --split test")
        if options.holdout and name not in described["splits"]:
            found.notes.append(f"{name} images, and {run.folder} was judged on a hold-out")
        else:
            run.check_split(name, split_record(found, options))
    return found


@contextmanager
def _hint(hint: str, kind: type[UserError]) -> Iterator[None]:
    """Add what the user may do to the errors of a kind."""
    try:
        yield
    except kind as error:
        raise (kind(f"{error}; {hint}") if hint else error) from None


def _place_options(config: Config) -> str:
    """The options that say where a run's images are now."""
    lists = ", --lists FOLDER" if config.of(DataOptions).dataset in LISTS else ""
    return f"--root FOLDER{lists}"


def _check_folder(path: Path, classes: list[str]) -> None:
    """Refuse a folder of splits in place of one of classes."""
    if any((path / name).is_dir() for name in classes):
        return
    split = next((name for name in reversed(SPLITS) if (path / name).is_dir()), None)
    if split is not None:
        raise UserError(
            f"--data {path} has no folder of a class; say which split of it: --data {path / split}"
        )
