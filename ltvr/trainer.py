"""Two-stage training: features under the lay-back schedule, then the classifier alone (cRT)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltvr import ops
from ltvr.batchnorm import measure_real_statistics
from ltvr.build import autocast, build_model, choose_device
from ltvr.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ltvr.config import Config
from ltvr.data.batches import Batches, mix
from ltvr.data.datasets import Data
from ltvr.data.samplers import epoch_order
from ltvr.errors import Diverged, UserError
from ltvr.interrupt import Interrupt
from ltvr.losses import generates, lay_back_loss
from ltvr.metrics import evaluate
from ltvr.planning import SynthesisPlan, most_generated, plan_synthesis
from ltvr.progress import Curves, epoch_line, progress
from ltvr.runs import Run
from ltvr.stage import Stage, StageState
from ltvr.transfer import to_device

__all__ = ["Trainer"]


class Trainer:
    """Trains, evaluates and records one run; resumes to the bit from ``last.pt``.

    Order, augmentation and synthesis are pure functions of (seed, stage, epoch, step); all else is
    in the checkpoint (``ltvr.stage.StageState``).
    """

    def __init__(
        self, config: Config, data: Data, run: Run, say: Callable[[str], None] = print
    ) -> None:
        self.config, self.data, self.run, self.say = config, data, run, say
        self.device = choose_device(config.device)
        if config.method == "ltvr":
            try:
                ops.require_extension()
            except RuntimeError as error:
                raise UserError(str(error)) from None
        torch.manual_seed(config.seed)
        self.model = build_model(config, len(data.classes))
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model.to(self.device).to(memory_format=memory_format)
        self.train_batches = Batches(data.train, config, self.device)
        self.test_batches = Batches(data.test, config, self.device)
        self.val_batches = Batches(data.val, config, self.device) if data.val else None
        self.micro_batch = config.batch_size // config.accumulate
        self.steps = len(data.train) // config.batch_size * config.accumulate
        """Micro-batches an epoch."""
        self._forward = torch.compile(self._logits) if config.compile else self._logits
        self._results: dict[str, Any] = {}
        self._resumed: dict[str, Any] | None = None

    # ---- stages ----

    def fit(self, stages: tuple[int, ...]) -> dict[str, Any]:
        """Train the stages in order; return the test metrics of each.

        Raises:
            UserError: training cannot go on; ``last.pt`` holds all there is.
            KeyboardInterrupt: after Ctrl-C (or SIGTERM), with ``last.pt`` written.
        """
        if self._resumed is not None:
            self._results = self._resumed["results"]
            stages = tuple(s for s in stages if s >= self._resumed["stage"])
        curves = Curves(self.run.folder)
        with Interrupt() as interrupt:
            for number in stages:
                stage = Stage.of(self.config, number)
                self._results[f"stage{number}"] = self._fit_stage(stage, curves, interrupt)
        curves.close()
        return self._results

    def start_from(self, weights: dict[str, Any], source: Path) -> None:
        """Take the weights of another run, for stage 2 alone.

        Raises:
            UserError: weights of another architecture.
        """
        load_weights(self.model, weights, source)

    def resume(self) -> None:
        """Go on from the run's ``last.pt``.

        Raises:
            UserError: there is none.
        """
        self._resumed = load_checkpoint(self.run.last)

    def _fit_stage(self, stage: Stage, curves: Curves, interrupt: Interrupt) -> dict[str, Any]:
        if stage.epochs and not self.steps:
            raise UserError(
                f"batch_size = {self.config.batch_size}: there are only {len(self.data.train)} "
                "training images; lower it"
            )
        if stage.number == 2:
            self._prepare_classifier()
        state = StageState(self.model, stage, self.config, len(self.data.classes))
        if self._resumed is not None:
            state.load_state_dict(self._resumed, self.run.last)
            self._resumed = None
            self.run.truncate(stage.number, state.epoch + 1)
        self._save(state)  # from here on there is always something to resume
        while state.epoch < stage.epochs:
            record = self._train_epoch(stage, state, interrupt)
            began = time.perf_counter()
            try:
                record["eval"] = self._evaluate(
                    state.evaluated, self.val_batches or self.test_batches
                )
            except UserError:  # an image that cannot be read: keep what was trained
                self._save(state)
                raise
            record["eval_seconds"] = round(time.perf_counter() - began, 3)
            self.run.append(record)
            self.say(epoch_line(record, stage.epochs))
            curves.add(record, self.config.epochs if stage.number == 2 else 0)
            if record["eval"]["all"] > state.best:
                state.best = record["eval"]["all"]
                best = {**state.state_dict(), "model": state.evaluated.state_dict()}
                save_checkpoint(self.run.best, best)
            state.next_epoch()
            self._save(state)
        return self._finish_stage(stage, state)

    def _finish_stage(self, stage: Stage, state: StageState) -> dict[str, Any]:
        """Settle on the reported weights, keep them, and test them."""
        select = self.config.select
        if select == "best" and stage.epochs:
            load_weights(self.model, load_checkpoint(self.run.best)["model"], self.run.best)
        elif state.average is not None:
            load_weights(self.model, state.evaluated.state_dict(), self.run.last)
        if stage.number == 1 and stage.epochs and self.config.stage1_batchnorm == "real":
            measure_real_statistics(self.model, self.train_batches, self.config)
        for path in (self.run.stage1, self.run.final) if stage.number == 1 else (self.run.final,):
            save_checkpoint(path, {"model": self.model.state_dict()})
        result = self._evaluate(
            self.model, self.test_batches, confusion=len(self.data.classes) <= 200
        )
        result["selected"] = select
        result["selected_on"] = None if select == "last" else self._evaluated_on
        return result

    def _prepare_classifier(self) -> None:
        """Freeze all but the classifier, and start it afresh."""
        self.model.requires_grad_(False)
        self.model.classifier.requires_grad_(True)
        if self.config.crt_init == "fresh":
            torch.manual_seed(mix(self.config.seed, 2))
            self.model.classifier.reset_parameters()

    # ---- an epoch and a step ----

    def _train_epoch(self, stage: Stage, state: StageState, interrupt: Interrupt) -> dict[str, Any]:
        """Train (the rest of) an epoch; return its record, without the evaluation."""
        config, steps, micro = self.config, self.steps, self.micro_batch
        began, start = time.perf_counter(), state.step
        self.model.train(stage.number == 1 or config.crt_batchnorm == "train")
        seed = mix(config.seed, stage.number)
        order = epoch_order(
            stage.sampler,
            self.data.train.labels,
            seed=seed,
            epoch=state.epoch,
            epochs=stage.epochs,
        )[: steps * micro]
        batches = self.train_batches.train(order, micro, seed=seed, epoch=state.epoch, start=start)
        updates = steps // config.accumulate

        def lr_at(step: int) -> float:
            return stage.lr_at(state.epoch * updates + step // config.accumulate, updates)

        step = start
        try:
            for images, labels in progress(
                batches, stage, state.epoch, start * micro, steps * micro
            ):
                loss = self._loss(stage, state, state.epoch * steps + step, images, labels)
                state.scaler.scale(loss / config.accumulate).backward()
                step += 1
                if step % config.accumulate == 0:
                    state.update(lr_at(step - 1))
                    state.step = step
                    if interrupt.requested:
                        self._save(state)
                        raise KeyboardInterrupt
        except UserError:
            if state.step == step:  # between two steps of the optimizer: nothing is half done
                self._save(state)
            raise
        means = state.totals.means()
        if not np.isfinite(means["real_loss"] or 0.0):
            raise Diverged(
                f"the loss became {means['real_loss']} in epoch {state.epoch + 1} of stage "
                f"{stage.number}; start again with a lower "
                f"{'--lr' if stage.number == 1 else '--crt-lr'} or with --warmup-epochs"
            )
        seconds = time.perf_counter() - began
        return {
            "stage": stage.number,
            "epoch": state.epoch + 1,
            "lr": lr_at(steps - 1),
            **means,
            "synthetic_counts": state.totals.synthetic_counts.tolist(),
            "seconds": round(seconds, 3),
            "images_per_second": round((steps - start) * micro / seconds, 1),
            "evaluated_on": self._evaluated_on,
        }

    def _loss(
        self, stage: Stage, state: StageState, step: int, images: Tensor, labels: Tensor
    ) -> Tensor:
        """Loss of one micro-batch; labels are the host's, ``step`` counts over all epochs."""
        config, device = self.config, self.device
        plan = None
        if (
            stage.number == 1
            and config.method == "ltvr"
            and generates(state.epoch, config.lay_back_epoch)
        ):
            plan = plan_synthesis(
                labels, gamma=config.gamma, alpha=config.alpha, seed=config.seed, step=step
            )
            state.totals.synthetic_counts += torch.bincount(
                plan.labels, minlength=len(self.data.classes)
            )
            if config.fixed_size:
                classes = len(self.data.classes)
                plan = plan.padded(most_generated(len(labels), config.gamma, classes))
            plan = plan.to(device)
        targets = to_device(labels, device)
        with autocast(config, device):
            if stage.number == 2:
                with torch.no_grad():
                    embeddings = self.model.embed(images)
                logits = self.model.classifier(embeddings)
            else:
                logits, targets = self._forward(images, targets, plan)
        loss = lay_back_loss(logits.float(), targets, len(labels), config.loss_weight)
        state.totals.add(loss, logits, targets, len(labels))
        return loss.total

    def _logits(
        self, images: Tensor, labels: Tensor, plan: SynthesisPlan | None
    ) -> tuple[Tensor, Tensor]:
        if plan is None:
            return self.model(images), labels
        return self.model.forward_augmented(images, labels, plan)

    # ---- evaluation and checkpoints ----

    @property
    def _evaluated_on(self) -> str:
        return "val" if self.val_batches else "test"

    def _evaluate(
        self, model: nn.Module, batches: Batches, confusion: bool = False
    ) -> dict[str, Any]:
        config = self.config
        with autocast(config, self.device):
            return evaluate(
                model,
                batches.evaluate(config.eval_batch_size),
                self.data.counts,
                many_above=config.many_above,
                few_below=config.few_below,
                confusion=confusion,
            )

    def _save(self, state: StageState) -> None:
        save_checkpoint(self.run.last, {**state.state_dict(), "results": self._results})
