"""``python -m ltvr.train``: train, evaluate and report, all stages in one command."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ltvr import distributed, errors
from ltvr.config.command_line import Parser, add_arguments, flag, given, positive, refuse_unused
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.config.times import minutes, seconds
from ltvr.data.datasets import stub_data
from ltvr.data.options import DataOptions
from ltvr.device import choose_device
from ltvr.engine.accuracy_table import table
from ltvr.engine.interrupt import TIME_IS_UP, Requests
from ltvr.engine.rehearsal import rehearse
from ltvr.engine.trainer import steps_an_epoch
from ltvr.errors import UserError
from ltvr.networks.build import check_network, choose_backend
from ltvr.networks.options import NetworkOptions
from ltvr.reports.page import named_stages
from ltvr.reports.rehearsal import rehearsal_lines
from ltvr.runs.finding import hold_newest_unfinished, newest_of_job
from ltvr.runs.folder import Run
from ltvr.runs.follower import Follower
from ltvr.runs.origin import DECIDE_NOTHING
from ltvr.saying import say, say_notes
from ltvr.settings import SCHEMA, load_config, methods, presets, with_method
from ltvr.stages import STAGES
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions
from ltvr.training import begin, check_source, resume, short_stages, this_command

__all__ = ["main"]

BESIDE_RESUME = {
    "resume", "out", "save_every", "time_limit", "stop_after_epoch", "device", *DECIDE_NOTHING
}  # fmt: skip
"""What may be said beside ``--resume``."""


def parser() -> Parser:
    """Build the command line: run folders, then every option of every component."""
    p = Parser(
        prog="python -m ltvr.train",
        usage="python -m ltvr.train [--preset NAME] [--method NAME] [--OPTION VALUE ...]\n"
        "       python -m ltvr.train --resume RUN",
        description="Train an image classifier on long-tailed data, stage after stage: the "
        "features, with AFA and the lay-back schedule, then the classifier alone (cRT).",
        epilog=f"Presets: {', '.join(presets())}. Methods: {', '.join(methods())}. Any option "
        "overrides both; in brackets, its value where none of them gives one.",
    )
    p.add_argument("--out", default="runs", help="folder of run folders (runs)")
    p.add_argument("--name", help="of the run folder; default: preset, method, seed and time")
    p.add_argument(
        "--from",
        dest="source",
        metavar="RUN",
        help="run folder, or a checkpoint in it, that --stages crt, or another that trains no "
        "features, starts from; its configuration holds where no preset is given",
    )
    p.add_argument(
        "--resume", metavar="PATH|auto", help="go on with a run; auto: the newest of --out"
    )
    p.add_argument(
        "--fork",
        metavar="RUN",
        help="begin where a run stands that differs in options of generation, before it begins, "
        "or of later stages; what both have in common is not trained again, and the result is to "
        "the bit that of a run by itself",
    )
    p.add_argument(
        "--save-every",
        type=minutes,
        metavar="MINUTES",
        default=minutes("10"),
        help="save within an epoch, too, after so long; 0: at the end of epochs only (10)",
    )
    p.add_argument(
        "--time-limit",
        type=seconds,
        metavar="TIME",
        help="save and stop when the command has run for so long: 3:50:00, 90m, or seconds; exit "
        f"status {TIME_IS_UP} (none)",
    )
    p.add_argument(
        "--stop-after-epoch",
        type=positive,
        metavar="E",
        help="stop at the end of this epoch, counted from 1 over all stages, to be gone on with by "
        "--resume or --fork (none)",
    )
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="train nothing: take a step of every stage on random images, and say what memory, "
        "time and disk the run would take",
    )
    add_arguments(p, SCHEMA)
    return p


def _dry_run(arguments: Any, config: Config, source: Path | None) -> None:
    """Print what a run would take."""
    for name in ("name", "fork", "save_every", "time_limit", "stop_after_epoch"):
        if getattr(arguments, name) != parser().get_default(name):
            raise UserError(f"{flag(name)} changes nothing with --dry-run; leave it out")
    if source is not None:
        check_source(config, source)
    device = choose_device(config.of(RunOptions).device)
    check_network(config, choose_backend(config, device))
    data = stub_data(config, device)
    steps = steps_an_epoch(config, data)
    size, counts = config.of(DataOptions).image_size, data.counts
    say(
        f"dry run: {len(data.train)} random images of {size}x{size} pixels in place of the "
        f"training images, {counts.max()} to {counts.min()} of {len(counts)} classes; nothing is "
        "written"
    )
    say_notes([*data.notes, *short_stages(config, steps)])
    for line in rehearsal_lines(rehearse(config, data, device), device):
        say(line)


def _resumed(arguments: Any) -> Run:
    """The run that ``--resume`` names."""
    p = parser()
    others = {k for k, v in vars(arguments).items() if v != p.get_default(k)}
    if others - BESIDE_RESUME:
        raise UserError("--resume goes on with the run's own configuration; drop the other options")
    if not arguments.resume:
        raise UserError("--resume '': name a run folder, or say --resume auto")
    if arguments.resume != "auto":
        path = Path(arguments.resume)
        run = Run.open(path)
        if path not in (run.folder, run.last):
            raise UserError(f"--resume {path}: a run goes on from its last.pt; name {run.folder}")
        return run
    found, passed = hold_newest_unfinished(Path(arguments.out), this_command())
    for why in passed:
        say(f"passing over a run: {why}")
    if found is None:
        raise UserError(f"--resume auto: no unfinished run in {arguments.out}")
    return found


def _named(name: str) -> str:
    """Hold ``--name`` to one folder name.

    Raises:
        UserError: a path, or what no folder can be called.
    """
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise UserError(f"--name {name!r}: expected the name of one folder; its path is --out")
    return name


def _configured(arguments: Any) -> Config:
    """The configuration that preset, method, source and options give."""
    options = given(arguments, SCHEMA)
    if arguments.source is not None and (options.get("weights") or options.get("pretrained")):
        raise UserError("--from RUN has the weights; drop --weights and --pretrained")
    method = options.pop("method", None)
    if arguments.source is not None and "preset" not in options:
        config = Run.open(Path(arguments.source)).config()
        if method:
            config = SCHEMA.config(with_method(config.flat(), method))
        config = config.replaced(**options)
    else:
        preset = options.pop("preset", "digits")
        config = load_config(preset, method, options)
    refuse_unused(config, options)
    return config


def _begun_by_this_job(arguments: Any) -> Run | None:
    """The run that this command began before its job was started or queued again, or None."""
    job = distributed.job()
    found = None if job is None else newest_of_job(Path(arguments.out), job, this_command())
    if found is None or found.config().effective() != _configured(arguments).effective():
        return None  # under the same name another job, whose preset has changed
    return found


def _of_ranks(find: Callable[[Any], Run | None], arguments: Any) -> Run | None:
    """The run that the first rank finds, as each rank is to see it."""
    found = find(arguments) if distributed.is_first() else None
    folder = distributed.from_first(None if found is None else found.folder)
    return found or (None if folder is None else Follower(folder))


def _run(arguments: Any, requests: Requests) -> Run | None:
    """Do what the command line asks for; return the run, None where none is to be made."""
    changes: dict[str, Any] = {}
    if arguments.resume is not None:
        begun, changes = _of_ranks(_resumed, arguments), given(arguments, SCHEMA)
    else:
        begun = _of_ranks(_begun_by_this_job, arguments)
        if begun is not None and begun.finished:
            say(f"{begun.folder} has finished already; this job began it")
            return begun
    if begun is not None:
        say(f"resuming {begun.folder}")
        resume(begun, changes=changes, requests=requests)
        return begun
    config = _configured(arguments)
    run_options = config.of(RunOptions)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    named = f"{run_options.preset}-{run_options.method}-seed{run_options.seed}-{stamp}"
    name = re.sub(r"[^\w.,=+-]", "-", named) if arguments.name is None else _named(arguments.name)
    folder = Path(arguments.out) / name
    device = choose_device(run_options.device)
    backend = choose_backend(config, device)
    decomposed = config.of(NetworkOptions).decomposition != "none"
    method = run_options.method + (f" ({backend})" if decomposed else "")
    say(f"{method} on {config.of(DataOptions).dataset}, {device.type}")
    source = Path(arguments.source) if arguments.source is not None else None
    if arguments.dry_run:
        _dry_run(arguments, config, source)
        return None
    trunk = Path(arguments.fork) if arguments.fork is not None else None
    return begin(config, folder, source, trunk, requests, numbered=arguments.name is None)


def main() -> None:
    """Run the command line."""
    began = distributed.began()
    arguments = parser().parse_args()
    if arguments.dry_run and distributed.launched() > 1:
        raise UserError("--dry-run is for one process; start it without torchrun")
    requests = Requests(
        arguments.save_every, arguments.time_limit, began, arguments.stop_after_epoch
    )
    with distributed.ranks_joined():
        requests.agree_on_the_end()
        run = _run(arguments, requests)
        if run is not None:
            config = run.config()
            stages = named_stages(run.read_summary()["metrics"])
            say(f"\n{table(stages, config.of(DataOptions).judged_on)}")
            if other := _settled(config):
                say(
                    f"{', '.join(other)}: with BatchNorm statistics of real images, and in its "
                    "epochs with the running ones"
                )
            say(f"\nreport: {run.report}")


def _settled(config: Config) -> list[str]:
    """The stages whose result has other BatchNorm statistics than their epochs were judged with."""
    if config.of(TrainingOptions).select == "best":
        return []
    return [STAGES.get(name).title for name, stage in stages_of(config).items() if stage.settles]


if __name__ == "__main__":
    errors.run(main, ranks=True)
