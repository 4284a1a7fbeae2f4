"""A run from its configuration to its report: trained, or gone on with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltvr import distributed
from ltvr.config.command_line import flag, words
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.device import choose_device
from ltvr.engine.alike import require_the_same_images, require_the_same_options
from ltvr.engine.cut import Cut
from ltvr.engine.fork import forked
from ltvr.engine.interrupt import Requests
from ltvr.engine.source import load_own
from ltvr.engine.trained import features_of
from ltvr.engine.trainer import Trainer, steps_an_epoch
from ltvr.errors import Diverged, UserError
from ltvr.networks.build import check_network, choose_backend
from ltvr.networks.weights import digest, weights_record, without_initial_weights
from ltvr.reports.page import write_report
from ltvr.reports.protocol import findings
from ltvr.runs.checkpoint import Damaged, Foreign, load_checkpoint
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.runs.follower import Follower
from ltvr.runs.going_on import go_on, saying_how_to_go_on, stopped
from ltvr.runs.origin import decide_nothing
from ltvr.runs.output import refuse_place
from ltvr.saying import say, say_notes
from ltvr.signals import say_when_stopped
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["begin", "check_source", "resume", "short_stages", "this_command", "train"]

FEW_STEPS = 50
"""With fewer a new classifier is far from trained: on 80 images, at batch 32, 10 steps of cRT were
up to 23 points below the features' own classifier, and 100 were not."""


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
    return begin(config, folder, source, trunk, requests, numbered=False).read_summary()


def begin(
    config: Config,
    folder: Path,
    source: Path | None,
    trunk: Path | None,
    requests: Requests,
    *,
    numbered: bool,
) -> Run:
    """``train``, but return the run; where the folder is taken and ``numbered``, one beside it."""
    if trunk is not None and source is not None:
        raise UserError("--fork goes on from a state, and --from from weights; leave one out")
    stem = None if trunk is None else Run.open(trunk)  # before all images are read
    check_source(config, source)
    _check_end(config, requests)
    if source is not None:
        config = without_initial_weights(config)
        origin, source = features_of(source)
    require_the_same_options(config)
    device = choose_device(config.of(RunOptions).device)
    check_network(config, choose_backend(config, device))
    record = weights_record(config)
    if source is not None:
        record = {"source": _source_record(origin, source)}
    if distributed.is_first():  # before all images are read
        refuse_place(folder)
        if not numbered:
            Run(folder).refuse_taken()
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
    steps = steps_an_epoch(config, data)  # refuses too few images, before a folder is made
    say_notes(short_stages(config, steps))
    state = None if stem is None else forked(stem, config, described | record)
    if state is not None:
        say(f"going on from epoch {state['epoch']} of {trunk}")
        record = record | {"forked": {"run": str(trunk), "epoch": state["epoch"]}}
    if cuts[0].parts > 1:
        say(f"a batch of {cuts[0].described} (ranks x images x micro-batches)")
    first = None
    if distributed.is_first():
        first = Run.create(folder, config, described | record, this_command(), numbered=numbered)
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
    run.hold(this_command())
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
            run.resumed_by(this_command())
            run.forget_diverged()
            _finish(trainer, said)
    return run.read_summary()


def short_stages(config: Config, steps: int) -> list[str]:
    """A line for each stage that starts a classifier afresh and hardly has the time to train it."""
    return [
        f"the stage {name} is {stage.epochs * steps} steps in all, few for a classifier that "
        f"starts afresh; raise --{name}-epochs"
        for name, stage in stages_of(config).items()
        if stage.needs_trained and stage.epochs * steps < FEW_STEPS
    ]


def _source_record(run: Run, weights: Path) -> dict[str, Any]:
    """What the manifest keeps of the weights that a run starts from: whose, and how trained."""
    config, stage = run.config(), load_checkpoint(weights)["stage"]
    stages = list(stages_of(config))
    trained = (
        config.replaced(stages=stages[: stages.index(stage) + 1]) if stage in stages else config
    )
    options = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in trained.effective().items()
    }
    return {"file": str(weights), "sha256": digest(weights), "options": options}


def this_command() -> str:
    """The command line of this process, as a run keeps it."""
    return " ".join(shlex.join(["python", "-m", "ltvr.train", *sys.argv[1:]]).split())


def _check_end(config: Config, requests: Requests | None) -> None:
    """Refuse a last epoch that a run does not have, after which it would never stop."""
    epochs = sum(stage.epochs for stage in stages_of(config).values())
    if requests is not None and (requests.last_epoch or 0) > epochs:
        raise UserError(
            f"--stop-after-epoch {requests.last_epoch}: the run has {epochs} epochs in all; lower "
            "it, or leave it out"
        )


def check_source(config: Config, source: Path | None) -> None:
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
        if isinstance(error, Diverged):
            run.note_diverged(str(error))
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
