"""What a run costs on this machine, measured: by its epochs, by another seed's, or by a probe."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.device import choose_device
from ltvr.engine.trainer import Trainer
from ltvr.errors import UserError, shown
from ltvr.jobs.children import THREADS, Job
from ltvr.jobs.training import REPEATED, Training, decisive
from ltvr.networks.weights import without_initial_weights
from ltvr.runs import files
from ltvr.runs.checkpoint import load_checkpoint
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.stages.build import stages_of
from ltvr.stages.features import FeaturesOptions
from ltvr.stages.options import TrainingOptions

__all__ = ["Cost", "cost", "duration", "show_costs"]

Epoch = tuple[str, int]
"""A stage, and an epoch of it from 1 on."""
PROBED_EPOCHS = 5
"""Each as long as a fifth of the stage, for methods that change in the course of it. The features
have more where something that they are to have would never begin in so few."""
PROBED_STEPS = 2
MACHINE = ("device", "threads", "cpu_capability")
"""What times depend on, of the environment of a run."""


class Cost(NamedTuple):
    """Seconds that are left of a run, and how they were measured."""

    seconds: float
    how: str


def cost(wanted: Training) -> Cost:
    """What is left of a run, without what each stage ends with: statistics, and the test.

    Raises:
        UserError: it would have to be probed, and cannot be.
    """
    found = wanted.look()
    if found.state == "done":
        return Cost(0.0, "done")
    done: dict[Epoch, float] = {}
    if found.state == "begun":
        run = Run(wanted.folder)
        done = _seconds(run)
    left = [epoch for epoch in wanted.epochs() if epoch not in done]
    known: defaultdict[Epoch, list[float]] = defaultdict(list)
    seeds = [run for run in _seeds(wanted) if _of_this_machine(run, wanted)]
    for run in seeds:
        for epoch, seconds in _seconds(run).items():
            known[epoch].append(seconds)
    if all(any(stage == name for name, _ in known) for stage, _ in left):
        names = ", ".join(run.folder.name for run in seeds)
        return Cost(sum(_expected(known, epoch) for epoch in left), f"epochs of {names}")
    probed = _probed(wanted)
    return Cost(sum(probed[epoch] for epoch in left), f"probe of {PROBED_STEPS} steps")


def _expected(known: dict[Epoch, list[float]], epoch: Epoch) -> float:
    """The seconds of an epoch: those it took, or else what others of its stage took."""
    if epoch in known:
        return statistics.fmean(known[epoch])
    return statistics.fmean(
        s for (stage, _), all_ in known.items() for s in all_ if stage == epoch[0]
    )


def _seconds(run: Run) -> dict[Epoch, float]:
    """The seconds of each epoch; of one that was interrupted, at the pace of its rest."""
    size = run.config().of(TrainingOptions).batch_size
    images = sum(run.manifest()["train_counts"]) // size * size
    return {
        (r["stage"], r["epoch"]): images / r["images_per_second"] + r["eval_seconds"]
        for r in run.records()
        if r.get("images_per_second")
    }


def _seeds(wanted: Training) -> Iterable[Run]:
    """The runs beside a wanted one that differ from it in ``REPEATED`` at most."""
    own = _repeated(wanted.config)
    for folder in sorted(wanted.out.glob(f"{wanted.label}-seed*")):
        try:
            run = Run.open(folder)
            other = _repeated(run.config())
        except UserError:
            continue
        if other == own:
            yield run


def _repeated(config: Config) -> dict[str, Any]:
    """What decides the runs of one label."""
    return {name: value for name, value in decisive(config).items() if name not in REPEATED}


def _of_this_machine(run: Run, wanted: Training) -> bool:
    try:
        there = (run.read_summary() if run.summary.is_file() else load_checkpoint(run.last))[
            "environment"
        ]
    except (UserError, KeyError):
        return False
    return all(there.get(name) == value for name, value in _machine(wanted).items())


def _machine(wanted: Training) -> dict[str, Any]:
    here = environment(choose_device(wanted.config.of(RunOptions).device))
    return {**{name: here[name] for name in MACHINE}, "threads": THREADS}


def show_costs(jobs: Sequence[Job]) -> None:
    """Print what there is of each job, and what is left of it."""
    total = 0.0
    for job in jobs:
        found = job.look()
        left = ""
        if found.state in ("missing", "begun"):
            try:
                seconds, how = cost(job) if isinstance(job, Training) else (None, "not measured")
            except UserError as error:
                seconds, how = None, f"cannot be measured: {error}"
            total += seconds or 0.0
            left = f"{'?' if seconds is None else duration(seconds):>8}  {how}"
        print(f"{job.log.parent.name}/{job.name:32} {found.state:12} {left}{shown(found.why)}")
    print(f"\nleft, one run after the other: {duration(total)} (hours:minutes)")


def duration(seconds: float) -> str:
    """Hours and minutes, of which a begun one counts."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02}"


# ---- a probe ----


def _probed(wanted: Training) -> dict[Epoch, float]:
    """Seconds by epoch, from the times of a few steps; they are kept beside the runs."""
    file = wanted.out / "costs.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    options = json.loads(json.dumps(_repeated(wanted.config)))
    key = {"machine": _machine(wanted), "options": options}
    entry = kept.get(wanted.label, {})
    if {k: entry.get(k) for k in key} != key:
        print(f"timing a few steps of {wanted.label}", flush=True)
        entry = {**key, "seconds": _probe(wanted)}
        wanted.out.mkdir(parents=True, exist_ok=True)
        files.write(file, json.dumps({**kept, wanted.label: entry}, indent=1) + "\n")
    found = {}
    for name, stage in stages_of(wanted.config).items():
        seconds = entry["seconds"][name]
        for epoch in range(stage.epochs):
            at = epoch * len(seconds) // stage.epochs
            found[name, epoch + 1] = seconds[at or min(1, len(seconds) - 1)]  # 0 warms up
    return found


def _probe(wanted: Training) -> dict[str, list[float]]:
    """Train a few epochs of few steps: seconds that whole epochs would take, by stage.

    Raises:
        UserError: images that are missing, or a network that cannot be built.
    """
    changes = {"features_batchnorm": "running", "select": "last", "batchnorm_images": 0}
    config = _shortened(without_initial_weights(wanted.config).replaced(**changes))
    data, threads = load_data(config), torch.get_num_threads()
    size = config.of(TrainingOptions).batch_size
    share = np.arange(min(len(data.test), size))
    part = replace(data, test=data.test.take(share), val=None)
    torch.set_num_threads(THREADS)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Run.create(Path(folder) / "probe", config, manifest(part, config), "a probe") as run,
        ):
            trainer = Trainer(config, part, run, say=lambda line: None, steps=PROBED_STEPS)
            for stage in trainer.stages.values():
                if stage.needs_trained:
                    stage.epochs = min(stage.epochs, PROBED_EPOCHS)
            trainer.fit()
            found: dict[str, list[float]] = {name: [] for name in trainer.stages}
            for r in run.records():
                images = len(data.train) // size * size
                tested = r["eval_seconds"] * len(data.val or data.test) / len(share)
                found[r["stage"]].append(images / r["images_per_second"] + tested)
            return found
    finally:
        torch.set_num_threads(threads)


def _shortened(config: Config) -> Config:
    """The same with few epochs of the features, in which all that it has begins."""
    epochs, probed = config.of(FeaturesOptions).epochs, PROBED_EPOCHS
    while probed < epochs:
        try:
            return config.replaced(epochs=probed)
        except UserError:
            probed *= 2
    return config
