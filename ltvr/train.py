"""``python -m ltvr.train``: train, evaluate and report, stage 1 and stage 2 in one command."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ltvr import errors
from ltvr.build import choose_backend, choose_device
from ltvr.checkpoint import load_checkpoint
from ltvr.config import Config, Parser, add_config_arguments, load_config, overrides_of, presets
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.environment import environment
from ltvr.errors import Diverged, UserError
from ltvr.metrics import table
from ltvr.report import named_stages, write_report
from ltvr.runs import Run
from ltvr.stage import Stage
from ltvr.trainer import Trainer

__all__ = ["main", "train"]


def parser() -> argparse.ArgumentParser:
    """Build the command line: run options, then every field of ``ltvr.config.Config``."""
    p = Parser(
        prog="python -m ltvr.train",
        usage="python -m ltvr.train [--preset NAME] [--FIELD VALUE ...] | --resume RUN",
        description="Train an image classifier on long-tailed data: stage 1 (features, with AFA "
        "and the lay-back schedule), then stage 2 (cRT, the classifier alone).",
        epilog=f"Presets: {', '.join(presets())}. Any field below overrides the preset; "
        "in brackets, its value where neither is given.",
    )
    p.add_argument(
        "--preset", help="a preset's name or a YAML file (digits; with --from, the run's own)"
    )
    p.add_argument("--out", default="runs", help="folder of run folders (runs)")
    p.add_argument("--name", help="of the run folder; default: preset, method, seed and time")
    p.add_argument(
        "--stage", choices=("1", "2", "both"), default="both", help="what to train (both)"
    )
    p.add_argument(
        "--from",
        dest="source",
        metavar="RUN",
        help="run folder, or a checkpoint in it, that stage 2 alone starts from",
    )
    p.add_argument(
        "--resume", metavar="PATH|auto", help="go on with a run; auto: the newest of --out"
    )
    add_config_arguments(p)
    return p


def train(
    config: Config, folder: Path, *, stages: tuple[int, ...] = (1, 2), source: Path | None = None
) -> dict[str, Any]:
    """Train a new run in ``folder``; return its summary (also ``summary.json``).

    Raises:
        UserError: configuration, data or source that do not fit.
    """
    if source is not None:
        Run.open(source).check_architecture(config)
    data = load_data(config)
    counts = data.counts
    left_out = f"; --imbalance {config.imbalance:g} left out {data.left_out}, 1 keeps them"
    print(
        f"{len(data.train)} training images of {len(counts)} classes, {counts.max()} to "
        f"{counts.min()} a class{left_out if data.left_out else ''}"
    )
    run = Run.create(folder, config, manifest(data, config))
    command = " ".join(["python -m ltvr.train", *sys.argv[1:]])
    run.write("stages.json", {"stages": list(stages), "command": command})
    trainer = Trainer(config, data, run)
    if source is not None:
        path = source if source.suffix == ".pt" else Run.open(source).stage1
        trainer.start_from(load_checkpoint(path)["model"], path)
    return _finish(trainer)


def resume(run: Run) -> dict[str, Any]:
    """Go on with a run from its ``last.pt``; return its summary.

    Raises:
        UserError: nothing to resume, or other data than the run began with.
    """
    if not run.last.is_file():
        raise UserError(f"{run.folder} stopped before its first checkpoint; start it again")
    config = replace(run.config(), pretrained=False)  # the weights are the checkpoint's
    data = load_data(config)
    run.check_manifest(manifest(data, config))
    trainer = Trainer(config, data, run)
    trainer.resume()
    return _finish(trainer)


def _finish(trainer: Trainer) -> dict[str, Any]:
    run, config = trainer.run, trainer.config
    started = json.loads((run.folder / "stages.json").read_text())
    try:
        metrics = trainer.fit(tuple(started["stages"]))
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
    summary = {
        "metrics": metrics,
        "method": config.method,
        "backend": trainer.model.afa.backend if trainer.model.afa is not None else None,
        "lr": {f"stage{n}": Stage.of(config, n).lr for n in (1, 2)},
        "seconds": round(sum(r["seconds"] + r["eval_seconds"] for r in run.records()), 1),
        "environment": environment(trainer.device),
        "command": started["command"],
        "seed": config.seed,
    }
    run.write("summary.json", summary)
    write_report(run, trainer)
    return summary


def main() -> None:
    """Run the command line."""
    p = parser()
    arguments = p.parse_args()
    overrides = overrides_of(arguments)
    if arguments.resume:
        given = {k for k, v in vars(arguments).items() if v != p.get_default(k)}
        if given - {"resume", "out"}:
            raise UserError(
                "--resume goes on with the run's own configuration; drop the other options"
            )
        run = (
            Run.newest_unfinished(Path(arguments.out))
            if arguments.resume == "auto"
            else Run.open(Path(arguments.resume))
        )
        if run is None:
            raise UserError(f"--resume auto: no unfinished run in {arguments.out}")
        print(f"resuming {run.folder}")
        summary = resume(run)
    else:
        if arguments.stage == "2" and not arguments.source:
            raise UserError("--stage 2 needs --from RUN, the run of stage 1")
        if arguments.source and arguments.stage != "2":
            raise UserError("--from is for --stage 2; add --stage 2")
        source = Path(arguments.source) if arguments.source else None
        preset = arguments.preset or "digits"
        config = (
            Run.open(source).config(overrides)
            if source and not arguments.preset
            else load_config(preset, overrides)
        )
        stages = (1, 2) if arguments.stage == "both" else (int(arguments.stage),)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        named = "crt" if source else Path(preset).stem
        label = f"{named}-{config.method}-seed{config.seed}-{stamp}"
        folder = Path(arguments.out) / (arguments.name or label)
        device = choose_device(config.device)
        backend = choose_backend(config, device)
        method = f"{config.method} ({backend})" if config.method == "ltvr" else config.method
        print(f"{method} on {config.dataset}, {device.type}, run folder {folder}")
        summary = train(config, folder, stages=stages, source=source)
        run = Run.open(folder)
    print(f"\n{table(named_stages(summary['metrics']))}\n\nreport: {run.report}")


if __name__ == "__main__":
    errors.run(main)
