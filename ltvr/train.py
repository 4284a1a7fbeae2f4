"""``python -m ltvr.train``: train, evaluate and report, all stages in one command."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ltvr import errors
from ltvr.config.command_line import Parser, add_arguments, given, refuse_unused
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.device import choose_device
from ltvr.engine.metrics import table
from ltvr.engine.trainer import Trainer
from ltvr.errors import Diverged, UserError
from ltvr.networks.build import check_network, choose_backend
from ltvr.networks.options import NetworkOptions
from ltvr.networks.weights import weights_record, without_initial_weights
from ltvr.reports.page import named_stages, write_report
from ltvr.runs.checkpoint import load_checkpoint
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.settings import SCHEMA, load_config, methods, presets, with_method
from ltvr.stages.build import stages_of

__all__ = ["main", "resume", "train"]


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
        help="run folder, or a checkpoint in it, that --stages crt starts from; its configuration "
        "holds where no preset is given",
    )
    p.add_argument(
        "--resume", metavar="PATH|auto", help="go on with a run; auto: the newest of --out"
    )
    add_arguments(p, SCHEMA)
    return p


def train(config: Config, folder: Path, *, source: Path | None = None) -> dict[str, Any]:
    """Train a new run in ``folder``; return its summary (also ``summary.json``).

    Args:
        source: a run folder, or a checkpoint in one, whose weights it starts from.

    Raises:
        UserError: configuration, data or source that do not fit.
    """
    _check_source(config, source)
    if source is not None:
        config = without_initial_weights(config)
    device = choose_device(config.of(RunOptions).device)
    check_network(config, choose_backend(config, device))
    record = weights_record(config)
    data = load_data(config)
    counts, imbalance = data.counts, config.of(DataOptions).imbalance
    left_out = f"; --imbalance {imbalance:g} left out {data.left_out}, 1 keeps them"
    print(
        f"{len(data.train)} training images of {len(counts)} classes, {counts.max()} to "
        f"{counts.min()} a class{left_out if data.left_out else ''}"
    )
    run = Run.create(folder, config, manifest(data, config) | record, _command())
    trainer = Trainer(config, data, run)
    if source is not None:
        path = source if source.suffix == ".pt" else _trained_features(Run.open(source))
        trainer.start_from(load_checkpoint(path)["model"], path)
    return _finish(trainer)


def resume(run: Run) -> dict[str, Any]:
    """Go on with a run from its ``last.pt``; return its summary.

    Raises:
        UserError: nothing to resume, or other data than the run began with.
    """
    if not run.last.is_file():
        raise UserError(f"{run.folder} stopped before its first checkpoint; start it again")
    config = without_initial_weights(run.config())
    data = load_data(config)
    run.check_manifest(manifest(data, config))
    trainer = Trainer(config, data, run)
    trainer.resume()
    run.resumed_by(_command())
    return _finish(trainer)


def _command() -> str:
    return " ".join(["python -m ltvr.train", *sys.argv[1:]])


def _check_source(config: Config, source: Path | None) -> None:
    """Refuse a first stage without the weights that it starts from, or a source for nothing."""
    name, first = next(iter(stages_of(config).items()))
    if first.needs_trained and source is None:
        raise UserError(
            f"--stages {name} starts from trained features: add --from RUN, the run that has them"
        )
    if source is not None and not first.needs_trained:
        raise UserError(
            f"--from is for stages that start from trained features, and {name} does not; add "
            "--stages crt"
        )
    if source is not None:
        Run.open(source).check_architecture(config)


def _trained_features(run: Run) -> Path:
    """The weights that the stages which train features left in ``run``."""
    stages = stages_of(run.config())
    trained = [name for name, stage in stages.items() if not stage.needs_trained]
    if not trained:
        raise UserError(f"{run.folder} trained no features; name the run that it started from")
    return run.weights(trained[-1])


def _finish(trainer: Trainer) -> dict[str, Any]:
    """Train what is left, and write the summary and the report."""
    run, config = trainer.run, trainer.config
    try:
        metrics = trainer.fit()
    except KeyboardInterrupt:
        if not run.last.is_file():
            raise UserError("stopped before the first step; nothing to resume") from None
        raise UserError(
            f"stopped; go on with: python -m ltvr.train --resume {run.folder}"
        ) from None
    except UserError as error:
        if isinstance(error, Diverged) or not run.last.is_file():
            raise
        raise UserError(f"{error}. Then: python -m ltvr.train --resume {run.folder}") from None
    options = config.of(RunOptions)
    summary = {
        "metrics": metrics,
        "preset": options.preset,
        "method": options.method,
        "backend": trainer.network.backend,
        "lr": {name: stage.lr for name, stage in trainer.stages.items()},
        "seconds": round(sum(r["seconds"] + r["eval_seconds"] for r in run.records()), 1),
        "environment": environment(trainer.device),
        "command": run.command(),
        "seed": options.seed,
    }
    run.write("summary.json", summary)
    write_report(run, trainer.data)
    return summary


def _resumed(arguments: Any) -> Run:
    """The run that ``--resume`` names."""
    p = parser()
    others = {k for k, v in vars(arguments).items() if v != p.get_default(k)}
    if others - {"resume", "out"}:
        raise UserError("--resume goes on with the run's own configuration; drop the other options")
    if arguments.resume != "auto":
        return Run.open(Path(arguments.resume))
    run = Run.newest_unfinished(Path(arguments.out))
    if run is None:
        raise UserError(f"--resume auto: no unfinished run in {arguments.out}")
    return run


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


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    if arguments.resume is not None:
        run = _resumed(arguments)
        print(f"resuming {run.folder}")
        summary = resume(run)
    else:
        config = _configured(arguments)
        options = config.of(RunOptions)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        named = f"{options.preset}-{options.method}-seed{options.seed}-{stamp}"
        folder = Path(arguments.out) / (arguments.name or named)
        device = choose_device(options.device)
        backend = choose_backend(config, device)
        decomposed = config.of(NetworkOptions).decomposition != "none"
        method = f"{options.method} ({backend})" if decomposed else options.method
        dataset = config.of(DataOptions).dataset
        print(f"{method} on {dataset}, {device.type}, run folder {folder}")
        source = Path(arguments.source) if arguments.source is not None else None
        summary = train(config, folder, source=source)
        run = Run.open(folder)
    print(f"\n{table(named_stages(summary['metrics']))}\n\nreport: {run.report}")


if __name__ == "__main__":
    errors.run(main)
