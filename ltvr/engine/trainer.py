"""Training: the stages of a configuration, one after the other."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltvr.afa import ops
from ltvr.clock import Clock, stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.data.targets import Targets
from ltvr.data.workers import require_shared_memory
from ltvr.device import autocast, choose_device, memory_format
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.interrupt import Requests
from ltvr.engine.progress import Curves, epoch_line, progress
from ltvr.engine.resumption import state_to_resume
from ltvr.engine.schedule import learning_rate
from ltvr.engine.state import StageState
from ltvr.engine.step import Step
from ltvr.errors import CannotWrite, Diverged, Stopped, UserError
from ltvr.networks.batchnorm import check_rows
from ltvr.networks.build import build_network, choose_backend
from ltvr.networks.network import Network
from ltvr.runs.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.runs.origin import origin
from ltvr.stages.base import Stage
from ltvr.stages.build import prepare_through, stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["Trainer", "steps_an_epoch"]

SAY = partial(print, flush=True)
MOST_CLASSES_OF_CONFUSION = 200
"""With more classes the confusion matrix is left out of the summary."""


def steps_an_epoch(config: Config, data: Data) -> int:
    """Steps in which an epoch passes over the training images; an incomplete one is left out.

    Raises:
        UserError: too few images for a step.
    """
    size = config.of(TrainingOptions).batch_size
    if size > len(data.train):
        raise UserError(
            f"batch_size = {size}: there are only {len(data.train)} training images; lower it"
        )
    return len(data.train) // size


def _said(say: Callable[[str], None], line: str) -> None:
    """Say a line.

    Raises:
        Stopped: nobody reads stdout any more (status 141), or it cannot be written to (2).
    """
    try:
        say(line)
    except BrokenPipeError:
        raise Stopped("stopped, nobody reads stdout any more", 141) from None
    except OSError as error:
        raise Stopped(f"stopped, stdout cannot be written to ({error.strerror})", 2) from None


class Trainer:
    """Trains, evaluates and records one run; resumes to the bit from ``last.pt``.

    Order, augmentation, mixing and synthesis are pure functions of the seed and the clock; all
    else is in the checkpoint (``ltvr.engine.state.StageState``).

    Args:
        config: of the run.
        data: its images.
        run: its folder.
        say: what prints a line an epoch.
        requests: what may ask it to save or to stop.
        steps: an epoch; None is a pass over the training images.

    Raises:
        UserError: a network that cannot be built, or run, as configured.
    """

    def __init__(
        self,
        config: Config,
        data: Data,
        run: Run,
        say: Callable[[str], None] = SAY,
        requests: Requests | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        self.config, self.data, self.run = config, data, run
        self._steps = steps
        self.say = partial(_said, say)
        self._requests = requests or Requests()
        self._run_options, self._training = config.of(RunOptions), config.of(TrainingOptions)
        self.device = choose_device(self._run_options.device)
        self.stages = stages_of(config)
        torch.manual_seed(self._run_options.seed)
        backend = choose_backend(config, self.device)
        self.network = build_network(config, len(data.classes), backend, self.say)
        rows = self._training.batch_size // self._training.accumulate
        for stage in (each for each in self.stages.values() if each.epochs):
            stage.train_mode(self.network)
            check_rows(self.network, rows)
        if self.network.decomposition is not None:
            try:
                ops.require_extension()  # the plans are made there
            except RuntimeError as error:
                raise UserError(str(error)) from None
        layout = memory_format(self._run_options.channels_last)
        self.network.to(self.device).to(memory_format=layout)
        self._require_shared_memory()
        self.train_batches = Batches(data.train, config, self.device, self._look)
        self.test_batches = Batches(data.test, config, self.device, self._look)
        self.val_batches = Batches(data.val, config, self.device, self._look) if data.val else None
        self._environment = environment(self.device)
        self._origin = origin(config, run.manifest())
        self._results: dict[str, Any] = {}
        self._resumed: dict[str, Any] | None = None
        self._state: StageState | None = None
        """Of the stage in training; None where ``last.pt`` has all that there is."""

    # ---- stages ----

    def fit(self) -> dict[str, Any]:
        """Train all stages that are left; return the test metrics of each by name.

        Raises:
            UserError: training cannot go on; ``last.pt`` holds all there is.
            Stopped: that was asked for, and ``last.pt`` is written.
        """
        names = list(self.stages)
        if self._resumed is not None:
            self._results = self._resumed["results"]
            names = names[names.index(self._resumed["stage"]) :]
        with self._requests, Curves(self.run.folder) as curves:
            try:
                for name in names:
                    self._results[name] = self._fit_stage(name, curves)
            except (CannotWrite, Diverged):
                raise
            except UserError:  # an image that cannot be read: keep what was trained
                if self._is_whole:
                    self._save()
                raise
        return self._results

    def start_from(self, weights: dict[str, Any], source: Path) -> None:
        """Take the weights of another run, for stages that start from trained features.

        Raises:
            UserError: weights of another architecture.
        """
        load_weights(self.network, weights, source)

    def resume(self) -> None:
        """Go on from the run's ``last.pt``, or from the one before it where that is damaged.

        Raises:
            UserError: there is none, it is not of this run, or the best epoch so far, which is to
                be reported, is missing.
        """
        self._resumed = state_to_resume(
            self.run, self.config, self.stages, self._environment, self.say
        )

    def _start(self, name: str, stage: Stage) -> StageState:
        """Prepare the network for a stage; take the checkpoint's state, if there is one."""
        training, classes = self._training, len(self.data.classes)
        steps = self._steps or steps_an_epoch(self.config, self.data)
        seed = self._run_options.seed
        if self._resumed is None:
            stage.prepare(self.network, stream(seed, name))
        else:
            prepare_through(self.network, self.stages, name, seed)
        self.network.to(self.device)  # what the stage may have put into it
        counts = torch.from_numpy(self.data.counts).to(self.device)
        loss = stage.build_loss(counts).to(self.device)
        clock = Clock(seed, name, stage.epochs, steps, training.accumulate)
        state = StageState(Step(self.network, loss), stage, self.config, clock, classes)
        if self._resumed is not None:
            state.load_state_dict(self._resumed, self.run.last)
            self._resumed = None
            self.run.truncate(name, state.clock.epoch + 1, list(self.stages))
            self._state = state
        else:
            self._state = state
            self._save()  # from here on there is always something to resume
        return state

    def _fit_stage(self, name: str, curves: Curves) -> dict[str, Any]:
        stage = self.stages[name]
        state = self._start(name, stage)
        step = torch.compile(state.step) if self._run_options.compile else state.step
        before = itertools.takewhile(lambda other: other is not stage, self.stages.values())
        epochs_before = sum(other.epochs for other in before)
        while state.clock.epoch < stage.epochs:
            record = self._train_epoch(stage, state, step)
            began = time.perf_counter()
            state.begin_evaluation()
            record["eval"] = self._evaluate_epoch(stage, state.evaluated)
            record["eval_seconds"] = round(time.perf_counter() - began, 3)
            self.run.append(record)
            curves.add(record, epochs_before)
            if record["eval"]["all"] > state.best:
                state.best = record["eval"]["all"]
                best = {**state.state_dict(), "model": state.evaluated.state_dict()}
                save_checkpoint(self.run.folder / f"best-{name}.pt", best | self._origin)
            state.next_epoch()
            self._save()
            self.say(epoch_line(record, stage.epochs))  # now that it is kept: nobody may read it
        self._state = None
        return self._finish_stage(name, stage, state)

    def _evaluate_epoch(self, stage: Stage, network: Network) -> dict[str, Any]:
        """Metrics of an epoch; where the best is to be found, of what would be reported of it."""
        batches = self.val_batches or self.test_batches
        if self._training.select != "best":
            return evaluate_split(network, batches, self.data.counts)
        settled = copy.deepcopy(network)  # training goes on with what is not settled
        stage.settle(settled, self.train_batches)
        return evaluate_split(settled, batches, self.data.counts)

    def _finish_stage(self, name: str, stage: Stage, state: StageState) -> dict[str, Any]:
        """Choose the reported weights, keep them, and test them."""
        select = self._training.select
        if select == "best" and stage.epochs:
            path = self.run.best(name)
            load_weights(self.network, load_checkpoint(path)["model"], path)
        elif state.average is not None:
            load_weights(self.network, state.evaluated.state_dict(), self.run.last)
        stage.settle(self.network, self.train_batches)
        for path in (self.run.weights(name), self.run.final):
            save_checkpoint(path, {"model": self.network.state_dict(), "stage": name})
        confusion = len(self.data.classes) <= MOST_CLASSES_OF_CONFUSION
        result = evaluate_split(
            self.network, self.test_batches, self.data.counts, confusion=confusion
        )
        result["selected"] = select
        on = {r["evaluated_on"] for r in self.run.records() if r["stage"] == name}
        result["selected_on"] = None if select == "last" else " and ".join(sorted(on)) or None
        return result

    # ---- an epoch and a micro-batch ----

    def _train_epoch(
        self, stage: Stage, state: StageState, step: Callable[..., Any]
    ) -> dict[str, Any]:
        """Train (the rest of) an epoch; return its record, without the evaluation."""
        clock, accumulate = state.clock, self._training.accumulate
        size = self._training.batch_size // accumulate
        total, start = clock.steps * accumulate, clock.step * accumulate
        began = time.perf_counter()
        stage.train_mode(state.step.network)
        state.step.begin_epoch(clock)
        seed = stream(clock.seed, clock.stage)
        order = stage.sampler.epoch(
            self.data.train.labels, seed=seed, epoch=clock.epoch, epochs=clock.epochs
        )[: total * size]
        batches = self.train_batches.train(order, size, seed=seed, epoch=clock.epoch, start=start)
        what = f"{clock.stage} epoch {clock.epoch + 1}/{clock.epochs}"
        with closing(batches):
            for images, labels in progress(batches, what, start * size, total * size):
                loss = self._loss(stage, state, step, images, labels)
                state.scaler.scale(loss / accumulate).backward()
                state.clock = replace(state.clock, micro_batch=state.clock.micro_batch + 1)
                if state.clock.micro_batch == accumulate:
                    state.update(learning_rate(stage, state.clock))
        means = state.totals.means()
        if not np.isfinite(means["real_loss"] or 0.0):
            raise Diverged(
                f"the loss became {means['real_loss']} in epoch {clock.epoch + 1} of stage "
                f"{clock.stage}; start again with a lower {stage.lr_flag} or with --warmup-epochs"
            )
        seconds = time.perf_counter() - began
        return {
            "stage": clock.stage,
            "epoch": clock.epoch + 1,
            "lr": learning_rate(stage, replace(clock, step=clock.steps - 1)),
            **means,
            "synthetic_counts": state.totals.synthetic_counts.tolist(),
            "seconds": round(seconds, 3),
            "images_per_second": round((total - start) * size / seconds, 1),
            "evaluated_on": self._evaluated_on,
        }

    def _loss(
        self,
        stage: Stage,
        state: StageState,
        step: Callable[..., Any],
        images: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """The loss of one micro-batch; images are on the device, labels on the host."""
        clock, classes = state.clock, len(self.data.classes)
        plan = stage.plan(labels, clock, classes)
        if plan is not None:
            state.totals.count(plan)
            plan = plan.to(self.device)
        targets = Targets(labels)
        if stage.mixing is not None:
            random = clock.random("mixing")
            images, targets = stage.mixing.mix(images, targets, self.data.counts, random)
        with autocast(self._run_options.amp, self.device):
            rows = step(images, targets.to(self.device), plan)
        loss = stage.total(rows.values, rows.weights, len(labels))
        state.totals.add(loss, rows, len(labels))
        return loss.total

    # ---- evaluation and checkpoints ----

    @property
    def _evaluated_on(self) -> str:
        return "val" if self.val_batches else "test"

    @property
    def _is_whole(self) -> bool:
        """Whether there is a state to save, between two steps: nothing of it is half done."""
        return self._state is not None and self._state.clock.micro_batch == 0

    def _look(self) -> None:
        """Save or stop, if that is asked for; called before every batch of any kind."""
        if self._state is None or self._is_whole:
            self._requests.attend(self._save)

    def _save(self) -> None:
        if self._state is not None:
            state = self._state.state_dict() | self._origin
            self.run.save({**state, "results": self._results, "environment": self._environment})
            self._requests.saved()

    def _require_shared_memory(self) -> None:
        """Refuse now what would else be refused at the first evaluation, an epoch later."""
        data, evaluated = self.config.of(DataOptions), self._run_options.eval_batch_size
        sizes = [(self.data.train, self._training.batch_size // self._training.accumulate)]
        sizes += [(split, evaluated) for split in (self.data.val, self.data.test) if split]
        for split, size in sizes:
            if not isinstance(split.images, Tensor):
                batch = min(size, len(split)) * 3 * data.image_size**2
                require_shared_memory(data.workers, batch, math.ceil(len(split) / size))
