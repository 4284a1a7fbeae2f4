"""``python -m ltvr.compare RUN...``: what differs between runs, what is gained, and by chance?"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from ltvr import errors
from ltvr.comparison.entries import check_comparable, grouped, read_entry
from ltvr.comparison.gains import gains_over
from ltvr.comparison.images import Images
from ltvr.config.command_line import Parser
from ltvr.data.holdout import described
from ltvr.data.options import DataOptions
from ltvr.engine.source import Source, add_places, places_of
from ltvr.engine.trained import add_device
from ltvr.errors import UserError, shown
from ltvr.reports import comparison
from ltvr.runs.output import output, refuse_same
from ltvr.saying import say_notes

__all__ = ["main"]


def parser() -> Parser:
    """Build the command line."""
    p = Parser(
        prog="python -m ltvr.compare",
        description="Compare runs with the first: configurations, curves, accuracy by class, and "
        "whether chance would do it. Runs that differ in their seed alone are one configuration: "
        "two or more seeds of two configurations are paired and tested over; else the test is over "
        "the images that they are judged on.",
    )
    p.add_argument("run", metavar="RUN", type=Path, nargs="+", help="run folder")
    p.add_argument(
        "--baseline", metavar="RUN", type=Path, help="what is compared with (the first RUN)"
    )
    p.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("comparison.html"),
        help="the page (comparison.html)",
    )  # fmt: skip
    p.add_argument(
        "--per-class", metavar="FILE", type=Path, help="CSV of each class: before, after, gain, p"
    )
    p.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with tests over images, which need the images that the runs are judged on (yes)",
    )
    add_places(p)
    add_device(p)
    return p


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    given = [arguments.baseline, *arguments.run] if arguments.baseline else arguments.run
    by_place: dict[Path, Path] = {}
    for path in given:  # what is named twice stays where it was named first
        by_place.setdefault(path.resolve(), path)
    paths = list(by_place.values())
    if len(paths) < 2:
        raise UserError(f"{shown(paths[0])} is one run; name another to compare it with")
    places = places_of(arguments)
    if places and not arguments.images:
        raise UserError(f"--{next(iter(places))} is for tests over images; leave out --no-images")
    entries = [read_entry(path) for path in paths]
    first = entries[0]
    notes = [note for entry in entries[1:] for note in check_comparable(first, entry)]
    for entry in entries:
        name = shown(entry.run.folder)
        if entry.metrics is None:
            notes.append(f"{name} is not finished: its curves end where it is")
        elif any(
            entry.judged_on in (each.get("selected_on") or "") for each in entry.metrics.values()
        ):
            on = "test set" if entry.judged_on == "test" else "hold-out that it is judged on"
            notes.append(f"{name} chose its epoch on the {on}: optimistic")
    if first.judged_on == "hold-out":
        counts = first.manifest["holdout"]["counts"]
        notes.append(described(first.config.of(DataOptions), counts))
    groups = grouped(entries)
    if len(groups) == 1:
        raise UserError(
            f"{shown(paths[0])} and the others are seeds of one configuration; name a run of "
            "another to compare it with"
        )
    refuse_same({"--out": arguments.out, "--per-class": arguments.per_class})
    with ExitStack() as stack:
        file = stack.enter_context(output(arguments.out, "--out"))
        rows = None
        if arguments.per_class is not None:
            rows = stack.enter_context(output(arguments.per_class, "--per-class"))
        images = Images(Source(changes=places), arguments.device) if arguments.images else None
        gains = [gain for other in groups[1:] for gain in gains_over(groups[0], other, images)]
        classes, counts = first.manifest["classes"], first.manifest["train_counts"]
        file.write(comparison.page(groups, gains, notes))
        if rows is not None:
            comparison.write_by_class(rows, groups[0], gains, classes, counts)
    say_notes(notes)
    if gains:
        print(comparison.table(groups[0], gains, classes), end="\n\n")
    print(f"page: {shown(arguments.out)}")


if __name__ == "__main__":
    errors.run(main)
