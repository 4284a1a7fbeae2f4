"""``python -m ltvr.probe RUN``: what is learnt, beside what it scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ltvr import errors
from ltvr.comparison.entries import check_comparable, read_entry
from ltvr.config.command_line import Parser, flag
from ltvr.data.options import DataOptions
from ltvr.engine.source import add_places, load_own, moved, places_of
from ltvr.engine.trained import (
    add_device,
    load_trained,
    trained_features,
    trained_parser,
    weights_of_features,
)
from ltvr.errors import UserError, shown
from ltvr.figures.plot import Plot, write
from ltvr.probes.figures import draw_accuracies, draw_history
from ltvr.probes.images import USUAL, USUAL_IN_ALL
from ltvr.probes.probed import Probed, Sizes, probe
from ltvr.reports.probes import as_csv, as_json, as_markdown, as_summary
from ltvr.reports.writing import write_forms
from ltvr.runs.output import make_folder
from ltvr.saying import say, say_notes
from ltvr.signals import say_when_stopped
from ltvr.stages.options import TrainingOptions

__all__ = ["main"]

OF_THE_TEST_SET = (
    "reads the test set, since it was trained without a hold-out: choose nothing by these figures; "
    "--holdout in training keeps images to choose by"
)
SIZES = Sizes(neighbours=10, batches=200, images=None, balanced_images=None)


def parser() -> Parser:
    """Build the command line."""
    p = trained_parser(
        "probe",
        "Ask what the features of runs have learnt: the neighbours of generated rows among real "
        "ones, their distances and losses, what the mask selects, what X_class and X_var tell, "
        "and a linear probe with balanced labels. The main figures are printed; all are written to "
        "RUN/probe.md, .csv and .json, with plots in RUN/probe, and of several runs also side by "
        "side, to --out.",
        several=True,
    )
    p.add_argument(
        "--neighbours", type=int, default=SIZES.neighbours, metavar="K",
        help=f"nearest real rows that are looked at ({SIZES.neighbours})",
    )  # fmt: skip
    p.add_argument(
        "--batches", type=int, default=SIZES.batches, metavar="N",
        help="batches of an epoch that rows are generated from, at most "
        f"({SIZES.batches})",
    )  # fmt: skip
    p.add_argument(
        "--images", type=int, metavar="N",
        help="training images, drawn at random, that stand for all (as many as 2 GB of features)",
    )  # fmt: skip
    p.add_argument(
        "--balanced-images", type=int, metavar="N",
        help="images of each class that linear probes train on, at most; those that the "
        f"long-tailed subset leaves out come first ({USUAL}, but {USUAL_IN_ALL} in all)",
    )  # fmt: skip
    add_places(p)
    p.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the table of several runs goes"
    )
    add_device(p)
    return p


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    check_numbers(arguments)
    paths = list(dict.fromkeys(arguments.run))
    if arguments.out is not None and len(paths) < 2:
        raise UserError("--out is for the table of several runs; leave it out, or name another run")
    runs = [weights_of_features(path)[0] for path in paths]
    entries = [read_entry(run.folder) for run in runs]
    for entry in entries[1:]:
        say_notes(check_comparable(entries[0], entry))
    folders = [shown(run.name) for run in runs]
    together = None if arguments.out is None else arguments.out / "probe"
    places = [place_of(path) for path in paths]
    if together is not None and together.resolve() in {place.resolve() for place in places}:
        raise UserError(
            f"--out {arguments.out} is one of the runs, whose own table the one of all would "
            "replace; name another folder"
        )
    for place in (*places, *filter(None, [together])):
        make_folder(place)
    found, written = [], []
    for path, folder in zip(paths, folders, strict=True):
        name = folder if folders.count(folder) == 1 else shown(path)
        of_run, where = probe_run(path, name, arguments)
        found.append(of_run)
        written.append(where)
        say_when_stopped(lambda: f"stopped; what is done: {', '.join(written)}")
    if together is not None:
        written.append(write_all(together, found, compared(found)))
    print("", *as_summary(found), "", *(f"all of it: {each}" for each in written), sep="\n")


def check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse numbers out of range.

    Raises:
        UserError: the first of them.
    """
    for name in SIZES._fields:
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= 1_000_000_000:
            raise UserError(f"{flag(name)} {value}: expected 1 to 1000000000")


def probe_run(path: Path, name: str, arguments: argparse.Namespace) -> tuple[Probed, str]:
    """Run all probes of a run, and write what they found into its folder; return it, and where.

    Raises:
        UserError: a run that has not come so far, or images that are missing or others.
    """
    run, weights, stage = weights_of_features(path)
    trained = load_trained(weights, arguments.device, arguments.fused)
    sizes = Sizes(*(getattr(arguments, name) for name in SIZES._fields))
    least = trained.config.of(TrainingOptions).batch_size
    if sizes.images is not None and sizes.images < least:
        raise UserError(f"--images {sizes.images}: expected at least a batch, {least}")
    trained = trained._replace(config=moved(trained.config, places_of(arguments)))
    data = load_own(run, trained.config)
    say_notes(data.notes)
    if trained.config.of(DataOptions).judged_on == "test":
        say_notes([f"{name}: {OF_THE_TEST_SET}"])
    found = probe(
        trained,
        weights,
        stage,
        data,
        sizes,
        name,
        say=lambda line: say(f"{name}: {line}"),
    )
    figures = {name: plot for each in found.sections for name, plot in each.figures.items()}
    return found, write_all(place_of(path), [found], figures)


def compared(found: Sequence[Probed]) -> dict[str, Plot]:
    """The figures of several runs."""
    by_name = {
        name: {run.name: each for run in found for each in run.sections if each.name == name}
        for name in ("history", "parts", "frozen")
    }
    history = {run: each.details["epochs"] for run, each in by_name["history"].items()}
    return {"history": draw_history(history)} | {
        name: draw_accuracies({run: each.lines for run, each in by_name[name].items()})
        for name in ("parts", "frozen")
    }


def place_of(path: Path) -> Path:
    """The folder, in the run's, for what is found of a run or of a checkpoint of one."""
    run, weights, _ = weights_of_features(path)
    own = weights.name == trained_features(run).name
    return run.folder / ("probe" if own else f"probe-{weights.stem}")


def write_all(place: Path, found: Sequence[Probed], figures: dict[str, Plot]) -> str:
    """Write the figures into a folder, and the tables, .md, .csv and .json, beside it.

    Returns:
        The files, for a reader.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    for each, plot in figures.items():
        write(plot, place / each)
    drawn = [f"{place.name}/{each}.png" for each in figures]
    whole = [as_json(run) for run in found]
    record = json.dumps(whole[0] if len(whole) == 1 else whole, indent=1) + "\n"
    write_forms(place, {"md": as_markdown(found, drawn), "csv": as_csv(found), "json": record})
    return f"{shown(place)}.md, .csv, .json; figures: {shown(place)}"


if __name__ == "__main__":
    errors.run(main)
