"""``python -m ltvr.sweep FILE``: configurations beside each other, without the test set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltvr import errors
from ltvr.config.command_line import Parser, positive
from ltvr.errors import UserError, shown
from ltvr.jobs.children import Job, do_all
from ltvr.jobs.progress import Progress, show_costs
from ltvr.jobs.training import Training
from ltvr.runs.output import make_folder
from ltvr.signals import say_when_stopped
from ltvr.sweeping.configurations import Design
from ltvr.sweeping.file import read
from ltvr.sweeping.plan import METRICS
from ltvr.sweeping.plots import draw
from ltvr.sweeping.results import Results, Rung
from ltvr.sweeping.sharing import jobs_of, of_diverged
from ltvr.sweeping.tables import write
from ltvr.sweeping.terminal import best, counted, outline, score

__all__ = ["main"]

OVERRIDES = ("root", "lists", "device")
"""Options of ``ltvr.train`` that may be said here; they go to every run."""


def parser() -> Parser:
    """Build the command line."""
    p = Parser(
        prog="python -m ltvr.sweep",
        description="Train the configurations that a file names, at the points of a grid or at "
        "Sobol points, all of them or by successive halving, and write a table and figures. They "
        "are judged on a hold-out, never on the test set. The same command goes on after a stop, "
        "and after a change of the file with what is still wanted.",
    )
    p.add_argument("file", metavar="FILE", type=Path, help="YAML: docs/sweeps.md has its keys")
    p.add_argument(
        "--out",
        type=Path,
        default=Path("runs/sweeps"),
        metavar="FOLDER",
        help="of NAME/sweep.md, NAME/runs/RUN and so on (runs/sweeps)",
    )
    p.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="K",
        help="runs at a time, of one thread each whatever their number (1)",
    )
    p.add_argument("--root", metavar="FOLDER", help="where the images are")
    p.add_argument("--lists", metavar="FOLDER", help="where list files are")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train (auto)")
    only = p.add_mutually_exclusive_group()
    only.add_argument(
        "--list", action="store_true", help="what is done, what is not, and what that costs here"
    )
    only.add_argument("--tables-only", action="store_true", help="of what is there; train nothing")
    return p


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of every run that the command line has."""
    said = {name: getattr(arguments, name) for name in OVERRIDES}
    options = {name: value for name, value in said.items() if value is not None}
    return options | {n: str(Path(options[n]).resolve()) for n in ("root", "lists") if n in options}


def show(design: Design, rungs: Sequence[Rung]) -> None:
    """Print every run that is known to be wanted, and what of it is left."""
    for note in design.notes:
        print(note)
    show_costs([job for rung in rungs for job in jobs_of(rung)])
    for line in (line for rung in rungs for line in rung.lines):
        for repeat, why in line.diverged.items():
            print(f"{line.runs[repeat].name}: {shown(why)}")
    if halving := design.sweep.halving:
        for number in range(len(rungs), len(halving.epochs)):
            many = halving.number(len(design.configurations), number)
            print(
                f"then the best {many} of {len(design.configurations)} at {halving.epochs[number]} "
                "epochs, which are not known yet, nor their cost"
            )


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    design = Design.of(read(arguments.file, overrides(arguments)))
    folder = arguments.out / design.sweep.name
    results = Results(design, folder / "runs")
    rungs = results.rungs()
    if arguments.list:
        show(design, rungs)
        return
    for note in (outline(design), *design.notes):
        print(note, flush=True)
    make_folder(folder)
    if not arguments.tables_only:
        say_when_stopped(lambda: "stopped; the same command goes on")
        while not (rungs[-1].complete and len(rungs) == len(design.sweep.rungs)):
            if rungs[-1].stuck:
                break
            rungs = train(rungs[-1], results, arguments.jobs, folder / "sweep")
    files = [*write(design, rungs, folder / "sweep"), *draw(design, rungs, folder)]
    print(" ".join(map(str, files)))
    if rungs[-1].stuck:
        raise UserError(
            f"no configuration has a {METRICS[design.sweep.metric]} to choose by: every one has "
            "diverged, or there is no such class; see the table, and change the file"
        )
    print(best(design, rungs))


def train(rung: Rung, results: Results, at_a_time: int, path: Path) -> list[Rung]:
    """Train the runs of a rung, and write what there is after each; return the rungs then.

    Raises:
        UserError: a run that failed, but for one that diverged.
    """
    design, jobs = results.design, jobs_of(rung)
    progress = Progress(jobs, counted(design, rung, jobs))

    def ended(job: Job, why: str) -> None:
        rungs = results.rungs()
        progress.ended(job, shown(why) if why else score(rungs[rung.number], job))
        if why and not (isinstance(job, Training) and of_diverged(job)):
            raise UserError(f"{job.name}: {why}; mend it, and the same command goes on")
        write(design, rungs, path)

    do_all(jobs, at_a_time, ended)
    return results.rungs()


if __name__ == "__main__":
    errors.run(main)
