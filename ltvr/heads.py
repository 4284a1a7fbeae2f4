"""``python -m ltvr.heads RUN``: every head on the features that a run has trained."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ltvr import __version__, distributed, errors
from ltvr.config.command_line import Parser, add_arguments, flag, given, refuse_unused
from ltvr.config.config import Config, Schema
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.engine.source import add_places, load_own, moved, places_of
from ltvr.engine.trained import (
    Trained,
    add_device,
    load_trained,
    trained_features,
    trained_parser,
    weights_of_features,
)
from ltvr.errors import UserError, shown
from ltvr.networks.weights import digest
from ltvr.posthoc.catalogue import Head, heads_of, longest_training, names, trained_names
from ltvr.posthoc.embeddings import EmbeddingCache, identity_of
from ltvr.posthoc.images import MOST_BYTES, MOST_VIEWS, Images, load_images
from ltvr.posthoc.measure import Kept, Measured, measure
from ltvr.reports.heads import as_csv, as_json, as_markdown, as_text, notes
from ltvr.reports.writing import write_forms
from ltvr.runs import files
from ltvr.runs.folder import Run
from ltvr.runs.lock import Lock
from ltvr.saying import say, say_notes
from ltvr.signals import say_when_stopped
from ltvr.stages import STAGES

__all__ = ["main"]

HOLD_OUT = 20
"""Images of a class that values are chosen on, where nothing else is asked for."""


def schema() -> Schema:
    """The options of the stages whose training gives a head."""
    return Schema(*(STAGES.get(name).options_type for name in trained_names()))


def parser() -> Parser:
    """Build the command line."""
    p = trained_parser(
        "heads",
        "Compare classifiers on the features of a run: embeddings of its images are made once and "
        "kept in RUN/heads, then every head is fitted to them and tested. The table is printed, "
        "and written to RUN/heads.md, .csv and .json; that of a checkpoint which RUN does not "
        "stand for, as best-features.pt, to RUN/heads-best-features.md and so on.",
    )
    p.add_argument(
        "--heads",
        nargs="+",
        choices=names(),
        metavar="NAME",
        help=f"which, of {', '.join(names())} (all)",
    )
    p.add_argument(
        "--views",
        type=int,
        metavar="V",
        help="augmented views of each training image for the heads that are trained; 0: the image "
        f"as inference sees it (as many as the longest has epochs, at most {MOST_VIEWS} and "
        f"{MOST_BYTES / 1e9:g} GB)",
    )
    p.add_argument(
        "--choose-on",
        type=int,
        metavar="K",
        help="training images of each class, but no more than half of it, that values are chosen "
        f"on where there is no validation split ({HOLD_OUT})",
    )
    p.add_argument(
        "--lr-factors",
        type=float,
        nargs="+",
        metavar="X",
        default=[1.0],
        help="factors on the learning rates of the heads that are trained; of several one is "
        "chosen (1)",
    )
    add_places(p)
    add_device(p)
    add_arguments(p, schema())
    return p


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    check_numbers(arguments)
    with ExitStack() as until_the_end:
        with distributed.ranks_joined():
            first, work = distributed.is_first(), prepare(arguments, until_the_end)
        if first:  # alone: the heads take what is kept of the images
            found = fit(work)
            report(work, found, said(arguments))


class Work(NamedTuple):
    """What heads are fitted to, and which."""

    trained: Trained
    stage: str
    path: Path
    """Of the weights."""
    data: Data
    heads: list[Head]
    images: Images
    folder: Path
    """Where what is done is kept."""

    @property
    def options(self) -> DataOptions:
        """Of the images."""
        return self.trained.config.of(DataOptions)


def prepare(arguments: argparse.Namespace, until_the_end: ExitStack) -> Work:
    """Read what is asked for, and embed the images, on all ranks.

    Args:
        until_the_end: lets go of what is held until the command ends.
    """
    run, path, stage = weights_of_features(arguments.run)
    # TDE is a head of its own: to adjust its logits would be to correct head classes twice.
    plain = {"tde": False} if run.config().effective().get("tde") else {}
    trained = load_trained(path, arguments.device, arguments.fused, plain)
    chosen = tuple(arguments.heads or names())
    config = configured(arguments, trained.config, chosen)
    heads = heads_of(trained, path, config, chosen, tuple(arguments.lr_factors))
    check_choose_on(arguments, run, heads)
    with distributed.first_ahead():
        data = load_own(run, moved(trained.config, places_of(arguments)))
    say_notes(data.notes)
    folder = made(run.folder / "heads")
    if distributed.is_first():
        lock = Lock(folder, shlex.join(["python", "-m", "ltvr.heads", *sys.argv[1:]]))
        until_the_end.callback(lock.release)
    say_when_stopped(lambda: "stopped; what is done is kept, and the same command goes on")
    images = embed(arguments, trained, config, data, heads, folder)
    return Work(trained, stage, path, data, heads, images, folder)


def made(folder: Path) -> Path:
    """``folder``, once it is there.

    Raises:
        UserError: it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is in the way, as embeddings go into a folder of that name")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise files.cannot_write(folder, error) from None
    return folder


def check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse numbers out of range.

    Raises:
        UserError: the first of them.
    """
    for name, least in (("views", 0), ("choose_on", 1)):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= 1_000_000:
            raise UserError(f"{flag(name)} {value}: expected {least} to 1000000")
    factors = arguments.lr_factors
    if not all(1e-6 <= factor <= 1e6 for factor in factors) or len(set(factors)) < len(factors):
        raise UserError(
            f"--lr-factors {' '.join(f'{factor:g}' for factor in factors)}: expected numbers from "
            "1e-6 to 1e6, each once"
        )


def check_choose_on(arguments: argparse.Namespace, run: Run, heads: list[Head]) -> None:
    """Refuse ``--choose-on`` where nothing is chosen on it.

    Raises:
        UserError: says why.
    """
    if arguments.choose_on is None:
        return
    if "val" in run.manifest()["splits"]:
        raise UserError("--choose-on changes nothing beside a validation split; leave it out")
    if not any(len(head.values) > 1 for head in heads):
        raise UserError("--choose-on changes nothing where no value is chosen; leave it out")
    if max(run.manifest()["train_counts"]) < 2:
        raise UserError("--choose-on: every class has one training image alone; leave it out")


def configured(arguments: argparse.Namespace, config: Config, chosen: tuple[str, ...]) -> Config:
    """The run's configuration, with what was said of the stages whose training gives a head.

    Raises:
        UserError: an option that would change nothing.
    """
    options = given(arguments, schema())
    training = tuple(name for name in trained_names() if name in chosen)
    for name in options:
        if name.endswith("_batchnorm"):
            raise UserError(
                f"{flag(name)} changes nothing here: embeddings are made with the running "
                "statistics; leave it out, or train the stage by itself with --stages and --from"
            )
    if arguments.views and config.of(DataOptions).augmentation == "none":
        raise UserError(
            f"--views {arguments.views}: the run does not augment its images, and all views would "
            "be the same; leave it out"
        )
    if not training:
        used = ["views"] if arguments.views is not None else list(options)
        if used or arguments.lr_factors != [1.0]:
            name = used[0] if used else "lr_factors"
            raise UserError(
                f"{flag(name)} is of the heads that are trained ({', '.join(trained_names())}), "
                "and none of --heads is one; leave it out"
            )
        return config
    config = config.replaced(**options)
    refuse_unused(config.replaced(stages=training), options)
    return config


def embed(
    arguments: argparse.Namespace,
    trained: Trained,
    config: Config,
    data: Data,
    heads: list[Head],
    folder: Path,
) -> Images:
    """Embed the images, on all ranks; what is kept is not made again."""
    identity = identity_of(trained)
    if distributed.is_first():  # it takes away what is of no use, before others write
        cache = EmbeddingCache(folder / "embeddings", identity, say)
    distributed.barrier()
    if not distributed.is_first():
        cache = EmbeddingCache(folder / "embeddings", identity, say)
    return load_images(
        trained,
        data,
        cache,
        epochs=longest_training(config) if any(head.trained for head in heads) else 0,
        views=arguments.views,
        per_class=arguments.choose_on or HOLD_OUT,
    )


def fit(work: Work) -> list[Measured]:
    """Fit and test every head; what is kept is not done again."""
    identity = identity_of(work.trained)
    kept = Kept(work.folder / "results.jsonl", {**identity, "ltvr": __version__})
    found = []
    for head in work.heads:
        say(head.title)
        found.append(measure(head, work.images, work.data.counts, work.options, kept))
    return found


def said(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked for that changes the numbers of a head, by name."""
    names = ("fused", "views", "choose_on")
    own = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.lr_factors != [1.0]:
        own["lr_factors"] = arguments.lr_factors
    return own | given(arguments, schema())


def report(work: Work, found: list[Measured], options: dict[str, Any]) -> None:
    """Print the table, and write it to the run's folder.

    Args:
        options: of ``said``.
    """
    trained, path, images = work.trained, work.path, work.images
    run, values = trained.run, notes(trained, path, images, found)
    own, judged_on = path.name == trained_features(run).name, work.options.judged_on
    table = run.folder / ("heads" if own else f"heads-{path.stem}")
    name = f"{shown(run.name).replace('|', ' ')}, {path.name}"
    markdown, rows = as_markdown(name, found, values, judged_on), as_csv(found, judged_on)
    write_forms(table, {"md": markdown, "csv": rows})
    run.write(
        f"{table.name}.json",
        {
            "weights": path.name,
            "sha256": digest(path),
            "options": options,
            "stage": work.stage,
            "images": images.described,
            "classes": trained.classes,
            "evaluated_on": judged_on,
            "heads": as_json(found, judged_on),
            "notes": values,
        },
    )
    print(f"\n{as_text(found, judged_on)}\n")
    for note in values:
        print(note)
    print(f"\n{table}.md, .csv, .json")


if __name__ == "__main__":
    errors.run(main, ranks=True)
