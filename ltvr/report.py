"""``python -m ltvr.report RUN``: the page of a finished run, made again from its files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ltvr import errors
from ltvr.config.command_line import Parser
from ltvr.engine.evaluation import load_own
from ltvr.reports.page import write_report
from ltvr.runs.folder import Run

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    p = Parser(
        prog="python -m ltvr.report", description="Write report.html of a finished run anew."
    )
    p.add_argument("run", type=Path, help="run folder")
    p.add_argument(
        "--masks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with the masks, which need the run's images (yes)",
    )
    p.add_argument("--root", metavar="FOLDER", help="where the run's images are now")
    p.add_argument("--lists", metavar="FOLDER", help="where the run's list files are now")
    arguments = p.parse_args()
    run = Run.open(arguments.run)
    data = None
    if arguments.masks:
        moved = {name: getattr(arguments, name) for name in ("root", "lists")}
        config = run.config().replaced(**{k: v for k, v in moved.items() if v is not None})
        data = load_own(run, config)
    write_report(run, data)
    print(run.report)


if __name__ == "__main__":
    errors.run(main)
