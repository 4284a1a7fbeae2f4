"""``python -m ltvr.report RUN``: the page of a finished run, made again from its files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ltvr import errors
from ltvr.config.command_line import Parser
from ltvr.engine.source import add_places, load_own, moved, places_of
from ltvr.errors import UserError
from ltvr.reports.page import write_report
from ltvr.runs.folder import Run

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    p = Parser(
        prog="python -m ltvr.report", description="Write report.html of a finished run anew."
    )
    p.add_argument("run", metavar="RUN", type=Path, help="run folder")
    p.add_argument(
        "--masks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with the masks, which need the run's images (yes)",
    )
    add_places(p)
    arguments = p.parse_args()
    places = places_of(arguments)
    if places and not arguments.masks:
        raise UserError(f"--{next(iter(places))} is for the masks; leave out --no-masks")
    run = Run.open(arguments.run)
    data = load_own(run, moved(run.config(), places)) if arguments.masks else None
    write_report(run, data)
    print(run.report)


if __name__ == "__main__":
    errors.run(main)
