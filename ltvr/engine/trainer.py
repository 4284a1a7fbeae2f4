"""Training: the stages of a configuration, one after the other."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ltvr import distributed
from ltvr.clock import Clock, stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.data.workers import require_shared_memory
from ltvr.device import choose_device
from ltvr.engine.balanced import chosen_by
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.interrupt import Requests
from ltvr.engine.progress import Curves, epoch_line
from ltvr.engine.resumption import earlier_environments, state_to_resume
from ltvr.engine.state import StageState
from ltvr.engine.statistics import accuracy_by_statistics
from ltvr.engine.step import Step
from ltvr.engine.training import network_to_train, train_epoch
from ltvr.errors import CannotWrite, Diverged, Stopped, UserError
from ltvr.networks.batchnorm import moves_statistics, running_statistics
from ltvr.networks.network import Network
from ltvr.runs.checkpoint import FORMAT, load_checkpoint, load_weights
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.runs.origin import origin
from ltvr.runs.saving import Saver
from ltvr.saying import say
from ltvr.stages.base import Stage
from ltvr.stages.build import prepare_through, stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["Trainer", "steps_an_epoch"]

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
        say: Callable[[str], None] = say,
        requests: Requests | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        self.config, self.data, self.run = config, data, run
        self._steps = steps
        self.say = partial(_said, say)
        self._requests = requests or Requests()
        self._run_options, self._training = config.of(RunOptions), config.of(TrainingOptions)
        self._judged_on = config.of(DataOptions).judged_on
        self.device = choose_device(self._run_options.device)
        self.stages = stages_of(config)
        self.network = network_to_train(config, len(data.classes), self.device, self.say)
        self._require_shared_memory()
        self.train_batches = Batches(data.train, config, self.device, self._look)
        self.test_batches = Batches(data.test, config, self.device, self._look)
        self.val_batches = Batches(data.val, config, self.device, self._look) if data.val else None
        self._environment = environment(self.device)
        self.earlier_environments: list[dict[str, Any]] = []
        """Of what was trained before a stop, where they decided the last bits otherwise."""
        self._origin = origin(config, run.manifest())
        self._results: dict[str, Any] = {}
        self._resumed: dict[str, Any] | None = None
        self._saver = Saver(run)
        self._in_steps = False
        self._state: StageState | None = None
        """Of the stage in training; None where ``last.pt`` has all that there is."""

    # ---- stages ----

    def fit(self) -> dict[str, Any]:
        """Train all stages that are left; return the test metrics of each by name.

        With several ranks, all of them call it.

        Raises:
            UserError: training cannot go on; ``last.pt`` holds all there is.
            Stopped: that was asked for, and ``last.pt`` is written.
        """
        names = list(self.stages)
        if self._resumed is not None:
            self._results = self._resumed["results"]
            names = names[names.index(self._resumed["stage"]) :]
        with ExitStack() as stack:
            stack.enter_context(self._requests)
            stack.callback(self._saver.wait)
            curves = stack.enter_context(Curves(self.run.folder)) if self.run.writes else None
            try:
                for name in names:
                    self._results[name] = self._fit_stage(name, curves)
            except (CannotWrite, Diverged):
                raise
            except UserError:  # an image that cannot be read: keep what was trained
                if self._is_whole and distributed.ranks() == 1:
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
        self.earlier_environments = earlier_environments(self._resumed, self._environment)

    def fork(self, state: dict[str, Any]) -> None:
        """Go on from where another run has come to: ``state`` of ``ltvr.engine.fork.forked``."""
        for record in state["records"]:
            self.run.append(record)
        self.earlier_environments = earlier_environments(state, self._environment)
        own = {
            "environment": self._environment,
            "earlier_environments": self.earlier_environments,
            "format": FORMAT,
            **self._origin,
        }
        self._resumed = {k: v for k, v in state.items() if k != "records"} | own
        self.run.save(self._resumed)

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
        if self._resumed is None:
            stage.begin(self.network, self.train_batches)
        counts = torch.from_numpy(self.data.counts).to(self.device)
        loss = stage.training_loss(self.network, counts).to(self.device)
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

    def _fit_stage(self, name: str, curves: Curves | None) -> dict[str, Any]:
        stage = self.stages[name]
        state = self._start(name, stage)
        step = self._wrapped(state.step, stage)
        before = itertools.takewhile(lambda other: other is not stage, self.stages.values())
        epochs_before = sum(other.epochs for other in before)
        while state.clock.epoch < stage.epochs:
            self._in_steps = True
            record = train_epoch(stage, state, step, self.train_batches, self._stepped)
            self._in_steps = False
            record["evaluated_on"] = "val" if self.val_batches else self._judged_on
            began = time.perf_counter()
            is_last, every = record["epoch"] == stage.epochs, self._run_options.evaluate_every
            evaluated = is_last or record["epoch"] % every == 0
            record["eval"] = self._evaluate_epoch(stage, state.evaluated) if evaluated else None
            record["eval_seconds"] = round(time.perf_counter() - began, 3)
            self.run.append(record)
            if curves is not None:
                curves.add(record, epochs_before)
            if evaluated and (score := chosen_by(record)) > state.best:
                state.best = score
                best = {**state.state_dict(), "model": state.evaluated.state_dict()}
                self.run.save_weights(f"best-{name}.pt", best | self._origin)
            state.next_epoch()
            self._save()
            # Only now that it is saved, as to say a line fails where nobody reads stdout any more.
            self.say(epoch_line(record, stage.epochs, every))
            self._requests.ended(epochs_before + record["epoch"])
        self._state = None
        distributed.barrier()  # all files of the stage are read from here on
        return self._finish_stage(name, stage, state)

    def _wrapped(self, step: Step, stage: Stage) -> nn.Module:
        """The step as it is called: compiled, and with gradients that the ranks average."""
        called = cast(nn.Module, torch.compile(step)) if self._run_options.compile else step
        if distributed.ranks() == 1 or not stage.epochs:
            return called
        decomposition = self.network.decomposition
        # Without attention addition the real rows pass the decomposition by.
        idle = decomposition is not None and not decomposition.attention_addition
        # Buffers are averaged, as the gradients are; the option that leaves them alone has a new
        # name from torch 2.13 on.
        known = inspect.signature(DistributedDataParallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        buffers: dict[str, Any] = {option: False}
        return DistributedDataParallel(
            called, gradient_as_bucket_view=True, find_unused_parameters=idle, **buffers
        )

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
        left = running_statistics(self.network)
        stage.train_mode(self.network)
        moved = stage.epochs > 0 and moves_statistics(self.network)
        stage.settle(self.network, self.train_batches)
        for path in (self.run.weights(name), self.run.final):
            self.run.save_weights(path.name, {"model": self.network.state_dict(), "stage": name})
        confusion = len(self.data.classes) <= MOST_CLASSES_OF_CONFUSION
        result = evaluate_split(
            self.network, self.test_batches, self.data.counts, confusion=confusion
        )
        if self._run_options.batchnorm_images:
            result["batchnorm"] = accuracy_by_statistics(
                self.network,
                left,
                moved,
                result,
                self.train_batches,
                self.test_batches,
                self.data.counts,
            )
        result["evaluated_on"] = self._judged_on
        result["selected"] = select
        records = [r for r in self.run.records() if r["stage"] == name and r["eval"] is not None]
        on = {r["evaluated_on"] for r in records}
        result["selected_on"] = None if select == "last" else " and ".join(sorted(on)) or None
        return result

    # ---- evaluation and checkpoints ----

    @property
    def _is_whole(self) -> bool:
        """Whether there is a state to save, between two steps: nothing of it is half done."""
        return self._state is not None and self._state.clock.micro_batch == 0

    def _look(self) -> None:
        """Save or stop, if that is asked for; called before every batch of any kind.

        In the steps of an epoch several ranks agree on it after each (``_stepped``). Outside of
        them, in evaluation say, each reads batches at its own pace and all hold the same state: the
        first alone saves or stops, and the others end with it.
        """
        self._saver.check()
        if distributed.ranks() > 1 and (self._in_steps or not distributed.is_first()):
            return
        if self._state is None or self._is_whole:
            self._requests.attend(self._save)

    def _stepped(self) -> None:
        if distributed.ranks() > 1:
            self._requests.attend_together(self._save)

    def _save(self) -> None:
        if self._state is not None:
            self._saver.save(
                {
                    **self._state.state_dict(),
                    **self._origin,
                    "results": self._results,
                    "environment": self._environment,
                    "earlier_environments": self.earlier_environments,
                }
            )
            self._requests.saved()

    def _require_shared_memory(self) -> None:
        """Refuse workers that lack shared memory for the batches of any split.

        Otherwise those of evaluation would be refused an epoch later, and those of several ranks
        of a machine only when all of them take their share.
        """
        data, evaluated = self.config.of(DataOptions), self._run_options.eval_batch_size
        stages = self.stages.values()
        partners = any(s.mixing is not None and s.mixing.partners is not None for s in stages)
        rows = self._training.batch_size // self._training.accumulate // distributed.ranks()
        sizes = [(self.data.train, 2 * rows if partners else rows)]
        sizes += [(split, evaluated) for split in (self.data.val, self.data.test) if split]
        for split, size in sizes:
            if not isinstance(split.images, Tensor):
                batch = min(size, len(split)) * 3 * data.image_size**2
                number = math.ceil(len(split) / (size * distributed.ranks()))
                require_shared_memory(data.workers, batch, number, distributed.ranks_here())
        distributed.barrier()  # all have looked before any of them takes some of it
