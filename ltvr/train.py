"""``python -m ltvr.train``: train, evaluate and report, all stages in one command."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ltvr import distributed, errors
from ltvr.config.command_line import (
    Parser,
    add_arguments,
    flag,
    given,
    positive,
    refuse_unused,
    words,
)
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.config.times import minutes, seconds
from ltvr.data.datasets import load_data, stub_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.device import choose_device
from ltvr.engine.accuracy_table import table
from ltvr.engine.alike import require_the_same_images, require_the_same_options
from ltvr.engine.cut import Cut
from ltvr.engine.fork import forked
from ltvr.engine.interrupt import TIME_IS_UP, Requests
from ltvr.engine.rehearsal import rehearse
from ltvr.engine.source import load_own
from ltvr.engine.trained import trained_features
from ltvr.engine.trainer import Trainer, steps_an_epoch
from ltvr.errors import Diverged, UserError
from ltvr.networks.build import check_network, choose_backend
from ltvr.networks.options import NetworkOptions
from ltvr.networks.weights import digest, weights_record, without_initial_weights
from ltvr.reports.page import named_stages, write_report
from ltvr.reports.protocol import findings
from ltvr.reports.rehearsal import rehearsal_lines
from ltvr.runs.checkpoint import Damaged, Foreign, load_checkpoint
from ltvr.runs.environment import environment
from ltvr.runs.finding import hold_newest_unfinished, newest_of_job
from ltvr.runs.folder import Run
from ltvr.runs.follower import Follower
from ltvr.runs.going_on import go_on, saying_how_to_go_on, stopped
from ltvr.runs.origin import DECIDE_NOTHING, decide_nothing
from ltvr.saying import say, say_notes
from ltvr.settings import SCHEMA, load_config, methods, presets, with_method
from ltvr.signals import say_when_stopped
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["main", "resume", "train"]

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


def train(
    config: Config,
    folder: Path,
    *,
    source: Path | None = None,
    trunk: Path | None = None,
    requests: Requests | None = None,
) -> dict[str, Any]:
    """Train a new run in ``folder``; return its summary (also ``summary.json``).

    Args:
        source: a run folder, or a checkpoint in one, whose weights it starts from.
        trunk: a run folder, from whose state it goes on (``ltvr.engine.fork``).
        requests: what may ask the run to save or to stop; None is Ctrl-C and signals alone.

    Raises:
        UserError: configuration, data, source or trunk that do not fit.
        Stopped: that was asked for.
    """
    requests = requests or Requests()
    return _train(config, folder, source, trunk, requests, numbered=False).read_summary()


def _train(
    config: Config,
    folder: Path,
    source: Path | None,
    trunk: Path | None,
    requests: Requests,
    *,
    numbered: bool,
) -> Run:
    """``train``; where the folder is taken and it may be ``numbered``, in one beside it."""
    if trunk is not None and source is not None:
        raise UserError("--fork goes on from a state, and --from from weights; leave one out")
    stem = None if trunk is None else Run.open(trunk)  # before all images are read
    _check_source(config, source)
    _check_end(config, requests)
    if source is not None:
        config = without_initial_weights(config)
        source = source if source.suffix == ".pt" else trained_features(Run.open(source))
    require_the_same_options(config)
    device = choose_device(config.of(RunOptions).device)
    check_network(config, choose_backend(config, device))
    record = weights_record(config)
    if source is not None:
        record = {"source": {"file": str(source), "sha256": digest(source)}}
    if not numbered and distributed.is_first():
        Run(folder).refuse_taken()  # before all images are read
    cuts = [Cut.of(config.of(TrainingOptions), stage) for stage in stages_of(config).values()]
    with distributed.first_ahead():
        data = load_data(config)
        described = manifest(data, config)
    require_the_same_images(described)
    counts, imbalance = data.counts, config.of(DataOptions).imbalance
    left_out = f"; --imbalance {imbalance:g} left out {data.left_out}, 1 keeps them"
    say(
        f"{len(data.train)} training images of {len(counts)} classes, {counts.max()} to "
        f"{counts.min()} a class{left_out if data.left_out else ''}"
    )
    say_notes(data.notes)
    steps_an_epoch(config, data)  # refuses too few images, before a folder is made
    state = None if stem is None else forked(stem, config, described | record)
    if state is not None:
        say(f"going on from epoch {state['epoch']} of {trunk}")
        record = record | {"forked": {"run": str(trunk), "epoch": state["epoch"]}}
    if cuts[0].parts > 1:
        say(f"a batch of {cuts[0].described} (ranks x images x micro-batches)")
    first = None
    if distributed.is_first():
        first = Run.create(folder, config, described | record, _command(), numbered=numbered)
    folder = distributed.from_first(first.folder if first is not None else folder)
    with first or Follower(folder) as run:
        say(f"run folder {run.folder}")
        say_when_stopped(lambda: stopped("stopped", run))
        with saying_how_to_go_on(run):
            trainer = Trainer(config, data, run, requests=requests)
            if source is not None:
                trainer.start_from(load_checkpoint(source)["model"], source)
            if state is not None:
                trainer.fork(state)
            _finish(trainer)
    return run


def resume(
    run: Run, *, changes: dict[str, Any] | None = None, requests: Requests | None = None
) -> dict[str, Any]:
    """Go on with a run from its ``last.pt``; return its summary.

    Args:
        changes: of ``device`` and of options of ``decide_nothing``, by name.
        requests: as for ``train``.

    Raises:
        UserError: nothing to resume, changes of what decides, other data than the run began with,
            or a run that another process is training.
        Stopped: that was asked for.
    """
    if not run.resumable and run.summary.is_file():
        raise run.lacks(run.last)
    if not run.resumable:
        raise UserError(f"{run.folder} stopped before its first checkpoint; start it again")
    run.hold(_command())
    distributed.barrier()
    with run:
        if decide := (changes or {}).keys() - decide_nothing(run.config()) - {"device"}:
            raise UserError(
                f"{flag(min(decide))} decides what {run.folder} reports; leave it out, and it goes "
                "on as it began"
            )
        said = words(changes or {})
        say_when_stopped(lambda: stopped("stopped", run, said))
        config = without_initial_weights(run.config()).replaced(**(changes or {}))
        require_the_same_options(config)
        for stage in stages_of(config).values():
            Cut.of(config.of(TrainingOptions), stage)
        _check_end(config, requests)
        run.command()  # what is wrong with it is better known now than after the training
        with distributed.first_ahead():
            data = load_own(run, config)
        with saying_how_to_go_on(run, said):
            trainer = Trainer(config, data, run, requests=requests)
            with distributed.first_ahead():  # it puts another file in the place of a damaged one
                trainer.resume()
            run.resumed_by(_command())
            _finish(trainer, said)
    return run.read_summary()


def _command() -> str:
    return " ".join(shlex.join(["python", "-m", "ltvr.train", *sys.argv[1:]]).split())


def _check_end(config: Config, requests: Requests | None) -> None:
    """Refuse a last epoch that a run does not have, after which it would never stop."""
    epochs = sum(stage.epochs for stage in stages_of(config).values())
    if requests is not None and (requests.last_epoch or 0) > epochs:
        raise UserError(
            f"--stop-after-epoch {requests.last_epoch}: the run has {epochs} epochs in all; lower "
            "it, or leave it out"
        )


def _check_source(config: Config, source: Path | None) -> None:
    """Refuse a first stage without the weights that it starts from, or a source for nothing."""
    stages = stages_of(config)
    name, first = next(iter(stages.items()))
    if first.needs_trained and source is None:
        raise UserError(
            f"--stages {name} starts from trained features: add --from RUN, the run that has them"
        )
    if source is not None and not first.needs_trained:
        later = next((each for each, stage in stages.items() if stage.needs_trained), "crt")
        raise UserError(
            f"--from is for stages that start from trained features, and {name} does not; add "
            f"--stages {later}"
        )
    if source is not None:
        Run.open(source).check_architecture(config)


def _finish(trainer: Trainer, said: Sequence[str] = ()) -> None:
    """Train what is left, and write the summary and the report."""
    run = trainer.run
    try:
        metrics = trainer.fit()
        if run.writes:
            _summarise(trainer, metrics)
            write_report(run, trainer.data)
        distributed.barrier()
    except UserError as error:
        if isinstance(error, (Diverged, Damaged, Foreign)) or not run.resumable:
            raise
        raise UserError(f"{error}. Then: {go_on(run, said)}") from None


def _summarise(trainer: Trainer, metrics: dict[str, Any]) -> None:
    """Write ``summary.json`` of a run that has ended with these metrics."""
    run, config = trainer.run, trainer.config
    options = config.of(RunOptions)
    summary = {
        "metrics": metrics,
        "protocol": [each._asdict() for each in findings(config, run.manifest(), metrics)],
        "classes": trainer.data.classes,
        "train_counts": trainer.data.counts.tolist(),
        "preset": options.preset,
        "method": options.method,
        "backend": trainer.network.backend,
        "lr": {name: stage.lr for name, stage in trainer.stages.items()},
        "seconds": round(sum(r["seconds"] + r["eval_seconds"] for r in run.records()), 1),
        "environment": environment(trainer.device),
        "earlier_environments": trainer.earlier_environments,
        "command": run.command(),
        "seed": options.seed,
    }
    run.write("summary.json", summary)


def _dry_run(arguments: Any, config: Config, source: Path | None) -> None:
    """Print what a run would take."""
    for name in ("name", "fork", "save_every", "time_limit", "stop_after_epoch"):
        if getattr(arguments, name) != parser().get_default(name):
            raise UserError(f"{flag(name)} changes nothing with --dry-run; leave it out")
    if source is not None:
        _check_source(config, source)
    device = choose_device(config.of(RunOptions).device)
    check_network(config, choose_backend(config, device))
    data = stub_data(config, device)
    steps_an_epoch(config, data)
    size, counts = config.of(DataOptions).image_size, data.counts
    say(
        f"dry run: {len(data.train)} random images of {size}x{size} pixels in place of the "
        f"training images, {counts.max()} to {counts.min()} of {len(counts)} classes; nothing is "
        "written"
    )
    say_notes(data.notes)
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
    found, passed = hold_newest_unfinished(Path(arguments.out), _command())
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
    found = None if job is None else newest_of_job(Path(arguments.out), job, _command())
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
    return _train(config, folder, source, trunk, requests, numbered=arguments.name is None)


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
            stages = named_stages(run.read_summary()["metrics"])
            judged_on = run.config().of(DataOptions).judged_on
            say(f"\n{table(stages, judged_on)}\n\nreport: {run.report}")


if __name__ == "__main__":
    errors.run(main, ranks=True)
