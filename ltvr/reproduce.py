"""``python -m ltvr.reproduce TABLE...``: the paper's tables and figures, made again."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import ltvr
from ltvr import errors
from ltvr.config.command_line import Parser, positive, refuse_unused
from ltvr.config.run import Amp
from ltvr.data.options import DataOptions
from ltvr.errors import CannotWrite, UserError, by_reason, shown
from ltvr.figures.paper import FIGURES, Runs
from ltvr.jobs.children import Job, do_all, named
from ltvr.jobs.progress import Progress, show_costs
from ltvr.jobs.training import Training
from ltvr.reproduction.catalogue import CATALOGUE, Catalogue, Setting
from ltvr.reproduction.comparison import judge
from ltvr.reproduction.sheet import Sheet, each_once
from ltvr.reproduction.tables import Report, write
from ltvr.reproduction.wanted import Wants
from ltvr.runs.output import make_folder
from ltvr.settings import load_config, preset_label
from ltvr.signals import say_when_stopped

__all__ = ["main"]

OVERRIDES = ("dataset", "root", "lists", "imbalance", "device", "amp")
"""Options of ``ltvr.train`` that may be said here; they go to every run."""
DEFAULT_SEEDS = "0,1,2"


def parser(catalogue: Catalogue) -> Parser:
    """Build the command line."""
    p = Parser(
        prog="python -m ltvr.reproduce",
        description="Train what tables and figures of the paper need and is not there yet, and "
        "write them: the paper's numbers, ours, the gains. The same command goes on after a stop.",
    )
    p.add_argument(
        "names",
        nargs="+",
        choices=[*catalogue.tables, "all"],
        metavar="TABLE",
        help=f"{', '.join(catalogue.tables)}, or all",
    )
    p.add_argument(
        "--budget",
        choices=catalogue.budgets,
        default="cpu",
        help="cpu: a small network and a short schedule; paper: ResNeXt-50, for a GPU (cpu)",
    )
    p.add_argument(
        "--dataset", metavar="NAME", help="another than the table's; folder: a data set of your own"
    )
    p.add_argument("--root", metavar="FOLDER", help="where the images are")
    p.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="of FOLDER/cifar10/train/<class>/* and so on: the tables' data sets as image files",
    )
    p.add_argument("--lists", metavar="FOLDER", help="where list files are")
    p.add_argument(
        "--imbalance",
        type=float,
        metavar="X",
        help="largest class : smallest (the budget's; of --dataset folder 1: all its images)",
    )
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train (auto)")
    p.add_argument(
        "--amp",
        choices=get_args(Amp),
        help="the type that products are computed in; bf16 is the faster on GPUs, and on CPUs that "
        "have units for it (none: float32)",
    )
    p.add_argument(
        "--preset",
        metavar="NAME",
        help="a preset, or a YAML file, in place of the budget's: data set, network and schedule",
    )
    p.add_argument(
        "--with",
        dest="methods",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="methods, by name or YAML file, that tables have besides: with every seed",
    )
    p.add_argument(
        "--seeds",
        type=seeds,
        default=DEFAULT_SEEDS,
        metavar="LIST",
        help="of the runs that the catalogue marks as repeated, and of --with; the others take the "
        f"first of them ({DEFAULT_SEEDS})",
    )
    p.add_argument("--every-seed", action="store_true", help="all runs take all seeds")
    p.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="K",
        help="runs at a time, of one thread each whatever their number (1)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=Path("runs/reproduce"),
        metavar="FOLDER",
        help="of the runs: PRESET/RUN-seedN (runs/reproduce)",
    )
    p.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where the tables are written (--out)"
    )
    only = p.add_mutually_exclusive_group()
    only.add_argument(
        "--list", action="store_true", help="what is done, what is not, and what that costs here"
    )
    only.add_argument("--tables-only", action="store_true", help="of what is there; train nothing")
    return p


def seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them.

    Raises:
        ArgumentTypeError: anything else, or one twice.
    """
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected seeds like 0,1,2")
    found = tuple(int(part) for part in parts)
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected each seed once")
    return found


def plan(arguments: argparse.Namespace, catalogue: Catalogue) -> list[Sheet]:
    """The tables that are asked for, each on its data sets.

    Raises:
        UserError: a data set that the budget has no preset for, or options that do not fit.
    """
    names = list(catalogue.tables) if "all" in arguments.names else arguments.names
    wants: dict[str, Wants] = {}
    sheets = []
    for name in dict.fromkeys(names):
        table = catalogue.tables[name]
        for setting in settings(arguments, catalogue, table.datasets[arguments.budget]):
            if setting.name not in wants:
                options = dict(setting.options)
                refuse_unused(load_config(setting.preset, "baseline", options), options)
                wants[setting.name] = Wants(catalogue, setting, arguments.out)
            made = wants[setting.name]
            sheets.append(Sheet.of(table, made, arguments.seeds, every=arguments.every_seed))
    return sheets


def settings(
    arguments: argparse.Namespace, catalogue: Catalogue, datasets: Iterable[str]
) -> Iterator[Setting]:
    """The data and the schedule of a table, by what was said and by its own data sets.

    Raises:
        UserError: a data set that the budget has no preset for.
    """
    said = {name: getattr(arguments, name) for name in OVERRIDES}
    options = {name: value for name, value in said.items() if value is not None}
    options |= {n: str(Path(options[n]).resolve()) for n in ("root", "lists") if n in options}
    if arguments.preset is not None:
        if arguments.images is not None:
            raise UserError("--images is for the data sets of tables; with --preset say --root")
        own = load_config(arguments.preset, "baseline").of(DataOptions).dataset
        dataset = options.pop("dataset", own)
        other = {"dataset": dataset} if dataset != own else {}
        yield catalogue.held_to_the_budgets(Setting(dataset, arguments.preset, options | other))
        return
    budget = catalogue.budgets[arguments.budget]
    other = options.pop("dataset", None)
    for dataset in datasets if other is None else [other]:
        if dataset not in budget:
            raise UserError(
                f"--dataset {dataset}: the budget {arguments.budget} has presets for "
                f"{', '.join(budget)}; take one of them, or name a --preset"
            )
        setting = budget[dataset]
        made = {**setting.options, **options}
        if arguments.images is not None:
            made |= {"dataset": "folder", "root": str(image_folder(arguments, dataset))}
        yield catalogue.held_to_the_budgets(Setting(dataset, setting.preset, made))


def image_folder(arguments: argparse.Namespace, dataset: str) -> Path:
    """Where ``--images`` has a data set; tables of what is there do without it.

    Raises:
        UserError: it has none, or ``--root`` says another place.
    """
    folder: Path = (arguments.images / dataset).resolve()
    if arguments.root is not None:
        raise UserError("--images and --root both say where images are; drop one of them")
    if not (arguments.tables_only or (folder / "train").is_dir()):
        raise UserError(f"--images {arguments.images}: there is no folder {dataset}/train in it")
    return folder


def in_order(sheets: Sequence[Sheet]) -> list[Job]:
    """The jobs of all tables, each once, what it needs before it; seed after seed."""
    pairs = [(seed, job) for sheet in sheets for (_, seed), job in sheet.jobs.items()]
    return each_once(job for _, job in sorted(pairs, key=lambda pair: pair[0]))


def refuse_others(sheets: Sequence[Sheet]) -> None:
    """Refuse a table none of whose runs is there or begun, and others are in their place.

    It would be trained in vain, and its files, if they are there, would lose what they have.

    Raises:
        UserError: names the table and the first of the others.
    """
    for sheet in sheets:
        if (why := sheet.empty(finished=False)) and any(run.look().why for run in sheet.runs()):
            raise UserError(f"{sheet.name}: {why}")


def say_what_is_trained_again(jobs: Sequence[Job]) -> None:
    """Say which finished runs are trained once more, for their weights alone."""
    for job in jobs:
        if isinstance(job, Training) and job.instead_of is not None and job.look().state != "done":
            before = job.instead_of.folder
            print(f"{named(job)}: trained again, for its weights: those of {before} are gone")


def report(sheet: Sheet, failed: Mapping[Job, str], about: str, folder: Path) -> list[Path]:
    """Write a table, of what is there now."""
    lines = sheet.lines(failed)
    setting = sheet.setting
    verdicts = [] if setting.differs else judge(sheet.table, setting.dataset, lines)
    places = dict.fromkeys(
        ", ".join(f"{name} {value}" for name, value in run.environment().items())
        for run in sheet.runs()
        if run.look().state == "done"
    )
    source = setting.options.get("dataset", setting.dataset)
    read_from = f" as {source}" if source != setting.dataset else ""
    how = [
        f"Made by `{about}`, ltvr {ltvr.__version__}, {time.strftime('%Y-%m-%d')}; preset "
        f"{preset_label(setting.preset)}, data set {setting.described}{read_from}.",
        *(f"Trained on {place}." for place in places),
    ]
    made = Report(sheet.table, lines, verdicts, setting, how)
    return write(made, folder / sheet.name)


def draw(
    sheets: Sequence[Sheet], folder: Path, *, named: bool
) -> tuple[list[Path], dict[str, str]]:
    """Draw the figures among the tables from the runs that are finished.

    Args:
        named: whether the files have the names of the settings, behind those of the tables' files.

    Returns:
        The files, and why figures could not be drawn, by name.
    """
    runs: dict[str, dict[str, Mapping[str, Sequence[Path]]]] = {}
    to: dict[str, list[str]] = {}
    places: dict[str, dict[str, Any]] = {}
    device = "auto"
    for sheet in (each for each in sheets if each.table.name in FIGURES):
        said = sheet.setting.options
        places[sheet.setting.dataset] = {n: said[n] for n in ("root", "lists") if n in said}
        device = said.get("device", device)
        of: dict[str, list[Path]] = {row.run: [] for row in sheet.table.rows}
        for (label, _), job in sheet.jobs.items():
            folders = of[sheet.table.row(label).run]
            if (
                isinstance(job, Training)
                and job.look().state == "done"
                and job.folder not in folders
            ):
                folders.append(job.folder)
        runs.setdefault(sheet.table.name, {})[sheet.setting.dataset] = of
        to.setdefault(sheet.table.name, [f"{sheet.table.name}-of"]).append(sheet.setting.name)
    files: list[Path] = []
    failed: dict[str, str] = {}
    for name, finished in runs.items():
        path = folder / ("-".join(to[name]) if named else name)
        try:
            drawn = FIGURES[name](Runs(finished, places, device), path)
            files += drawn
            if not drawn:
                failed[name] = "no finished run of it, with the weights it may need, is in --out"
        except CannotWrite:
            raise
        except UserError as error:
            failed[name] = str(error)
    return files, failed


def command(arguments: argparse.Namespace) -> str:
    """The command as far as it decides what is in a table."""
    words = ["python", "-m", "ltvr.reproduce", *arguments.names, "--budget", arguments.budget]
    for name in ("dataset", "imbalance", "amp", "preset"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name}", str(value)]
    words += ["--with", *arguments.methods] if arguments.methods else []
    words += ["--seeds", ",".join(map(str, arguments.seeds))]
    return shlex.join([*words, "--every-seed"] if arguments.every_seed else words)


def main() -> int:
    """Run the command line; status 1 where a row or a figure is not there in the end."""
    catalogue = Catalogue.read(CATALOGUE)
    arguments = parser(catalogue).parse_args()
    sheets = plan(arguments, catalogue.with_methods(arguments.methods))
    jobs = in_order(sheets)
    if not arguments.tables_only:
        say_what_is_trained_again(jobs)
    if arguments.list:
        show_costs(jobs)
        return 0
    if not arguments.tables_only:
        refuse_others(sheets)
    folder, about = arguments.results or arguments.out, command(arguments)
    make_folder(folder)
    failed: dict[Job, str] = {}

    def ended(job: Job, why: str) -> None:
        progress.ended(job, shown(why) if why else "done")
        if why:
            failed[job] = why
        for sheet in sheets:
            if job in sheet.jobs.values():
                report(sheet, failed, about, folder)

    if not arguments.tables_only:
        say_when_stopped(lambda: "stopped; the same command goes on")
        progress = Progress(jobs, f"tables and figures: {len(sheets)}; runs: {len(jobs)}")
        do_all(jobs, arguments.jobs, ended)
    missing: list[tuple[str, str]] = []
    for sheet in sheets:  # files of a table that would be empty stay, if they are there
        if arguments.tables_only and (why := sheet.empty(finished=True)):
            missing += [] if sheet.table.name in FIGURES else [(sheet.name, why)]
        else:
            print(" ".join(map(str, report(sheet, failed, about, folder))))
    own = any(getattr(arguments, name) is not None for name in ("dataset", "imbalance", "preset"))
    files, not_drawn = draw(sheets, folder, named=own or arguments.budget != "cpu")
    print(" ".join(map(str, files)))
    missing += not_drawn.items()
    if not arguments.tables_only:
        missing += [(job.name, why) for job, why in failed.items()]
        for sheet in sheets:  # a job may be done, and lack what a row shows
            missing += [each for line in sheet.lines(failed) for each in line.missing.items()]
    for why, names in by_reason(missing).items():
        print(f"not there: {', '.join(names)}: {shown(why)}", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    errors.run(main)
