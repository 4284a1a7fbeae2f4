"""Two-stage training: features under the lay-back schedule, then the classifier alone (cRT)."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ltvr.build import build_model, choose_device
from ltvr.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ltvr.config import Config
from ltvr.data.batches import Batches, mix
from ltvr.data.datasets import Data
from ltvr.data.samplers import epoch_order
from ltvr.errors import UserError
from ltvr.losses import LayBackLoss, generates, lay_back_loss
from ltvr.metrics import evaluate
from ltvr.planning import plan_synthesis
from ltvr.runs import Run
from ltvr.schedule import cosine

__all__ = ["Trainer"]

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Stage:
    """What differs between the two stages."""

    number: int
    epochs: int
    lr: float
    sampler: str


class _Totals:
    """Sums over the steps of an epoch, kept on the device so that no step waits for them."""

    NAMES = (
        "real_loss",
        "real_correct",
        "real",
        "synthetic_loss",
        "synthetic_correct",
        "synthetic",
    )

    def __init__(self, device: torch.device, classes: int) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.synthetic_counts = torch.zeros(classes, dtype=torch.int64)

    def add(self, loss: LayBackLoss, logits: Tensor, labels: Tensor, real: int) -> None:
        correct = logits.detach().argmax(1) == labels
        number = len(labels) - real
        zero = torch.zeros((), device=logits.device)
        synthetic = loss.synthetic if loss.synthetic is not None else zero
        self.sums += torch.stack(
            [
                loss.real * real,
                correct[:real].sum(),
                zero + real,
                synthetic * number,
                correct[real:].sum(),
                zero + number,
            ]
        ).double()

    def means(self) -> dict[str, float | None]:
        s = dict(zip(self.NAMES, self.sums.tolist(), strict=True))
        return {
            f"{kind}_{what}": s[f"{kind}_{key}"] / s[kind] * scale if s[kind] else None
            for kind in ("real", "synthetic")
            for what, key, scale in (("loss", "loss", 1), ("accuracy", "correct", 100))
        }


class Trainer:
    """Trains, evaluates and records one run; resumes to the bit from ``last.pt``.

    Order, augmentation and synthesis are pure functions of (seed, stage, epoch, step); weights,
    optimizer, scaler, generators and position are in the checkpoint.
    """

    def __init__(
        self, config: Config, data: Data, run: Run, say: Callable[[str], None] = print
    ) -> None:
        self.config, self.data, self.run, self.say = config, data, run, say
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        self.model = build_model(config, len(data.classes))
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model.to(self.device).to(memory_format=memory_format)
        self.train_batches = Batches(data.train, config, self.device)
        self.test_batches = Batches(data.test, config, self.device)
        self.val_batches = Batches(data.val, config, self.device) if data.val else None
        self.writer = SummaryWriter(str(run.folder / "tensorboard"))
        self._forward = (
            torch.compile(self._training_logits) if config.compile else (self._training_logits)
        )
        self._stopping = False
        self._resumed: dict[str, Any] | None = None

    # ---- stages ----

    def stage(self, number: int) -> Stage:
        """Settings of stage 1 or 2."""
        c = self.config
        if number == 1:
            return Stage(1, c.epochs, c.scaled_lr(c.lr), c.sampler)
        return Stage(2, c.crt_epochs, c.scaled_lr(c.crt_lr), c.crt_sampler)

    def fit(self, stages: tuple[int, ...]) -> dict[str, Any]:
        """Train the stages in order; return the test metrics of each.

        Raises:
            UserError: training cannot go on; ``last.pt`` holds all there is.
            KeyboardInterrupt: after Ctrl-C (or SIGTERM), with ``last.pt`` written.
        """
        results: dict[str, Any] = {}
        if self._resumed is not None:
            results = self._resumed["results"]
            stages = tuple(s for s in stages if s >= self._resumed["stage"])
        with self._signals():
            for number in stages:
                results[f"stage{number}"] = self._fit_stage(self.stage(number), results)
        self.writer.close()
        return results

    def start_from(self, weights: dict[str, Any], source: Any) -> None:
        """Take the weights of another run, for stage 2 alone."""
        load_weights(self.model, weights, source)

    def resume(self) -> None:
        """Go on from the run's ``last.pt``."""
        self._resumed = load_checkpoint(self.run.last)

    def _fit_stage(self, stage: Stage, results: dict[str, Any]) -> dict[str, Any]:
        model, config = self.model, self.config
        micro = config.batch_size // config.accumulate
        steps = len(self.data.train) // config.batch_size * config.accumulate
        if stage.epochs and not steps:
            raise UserError(
                f"batch_size = {config.batch_size}: there are only {len(self.data.train)} training "
                "images; lower it"
            )
        if stage.number == 2:
            self._prepare_classifier()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(
            trained, lr=stage.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        average = self._average()
        first, start, best = 0, 0, -1.0
        totals = _Totals(self.device, len(self.data.classes))
        if self._resumed is not None:
            state, self._resumed = self._resumed, None
            load_weights(model, state["model"], self.run.last)
            optimizer.load_state_dict(state["optimizer"])
            scaler.load_state_dict(state["scaler"])
            if average is not None:
                average.load_state_dict(state["average"])
            first, start, best = state["epoch"], state["step"], state["best"]
            totals.sums.copy_(state["totals"])
            totals.synthetic_counts.copy_(state["synthetic_counts"])
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda" and state["cuda_rng"] is not None:
                torch.cuda.set_rng_state(state["cuda_rng"])
            self.run.truncate(stage.number, first + 1)

        def checkpoint(epoch: int, step: int) -> None:
            cuda = self.device.type == "cuda"
            save_checkpoint(
                self.run.last,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "average": average.state_dict() if average is not None else None,
                    "stage": stage.number,
                    "epoch": epoch,
                    "step": step,
                    "best": best,
                    "totals": totals.sums,
                    "synthetic_counts": totals.synthetic_counts,
                    "rng": torch.get_rng_state(),
                    "cuda_rng": torch.cuda.get_rng_state() if cuda else None,
                    "results": results,
                },
            )

        for epoch in range(first, stage.epochs):
            began = time.perf_counter()
            self._set_mode(stage)
            order = epoch_order(
                stage.sampler,
                self.data.train.labels,
                seed=mix(config.seed, stage.number),
                epoch=epoch,
                epochs=stage.epochs,
            )[: steps * micro]
            batches = self.train_batches.train(
                order, micro, seed=mix(config.seed, stage.number), epoch=epoch, start=start
            )
            step, done = start, start
            try:
                for images, labels in self._progress(batches, stage, epoch, start, steps, micro):
                    updates = (epoch * steps + step) // config.accumulate
                    lr = stage.lr * cosine(
                        updates,
                        stage.epochs * steps // config.accumulate,
                        round(config.warmup_epochs * steps / config.accumulate)
                        if stage.number == 1
                        else 0,
                    )
                    loss = self._loss(stage, epoch, epoch * steps + step, images, labels, totals)
                    scaler.scale(loss / config.accumulate).backward()
                    step += 1
                    if step % config.accumulate:
                        continue
                    for group in optimizer.param_groups:
                        group["lr"] = lr
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad(set_to_none=True)
                    if average is not None:
                        average.update_parameters(model)
                    done = step
                    if self._stopping:
                        checkpoint(epoch, done)
                        raise KeyboardInterrupt
            except UserError:
                if done == step:
                    checkpoint(epoch, done)
                raise
            means = totals.means()
            if not np.isfinite(means["real_loss"] or 0.0):
                raise UserError(
                    f"the loss became {means['real_loss']} in epoch {epoch + 1} of stage "
                    f"{stage.number}; lower --lr (last.pt holds the epoch before)"
                )
            seconds = time.perf_counter() - began
            measured = self._evaluate(average, self.val_batches or self.test_batches)
            record = {
                "stage": stage.number,
                "epoch": epoch + 1,
                "lr": lr,
                **means,
                "synthetic_counts": totals.synthetic_counts.tolist(),
                "evaluated_on": "val" if self.val_batches else "test",
                "eval": measured,
                "seconds": round(seconds, 3),
                "images_per_second": round((steps - start) * micro / seconds, 1),
            }
            self.run.append(record)
            self._publish(record, stage)
            totals = _Totals(self.device, len(self.data.classes))
            start = 0
            if measured["all"] > best:
                best = measured["all"]
                self._save_weights(self.run.best, average)
            checkpoint(epoch + 1, 0)

        if config.select == "best" and stage.epochs:
            load_weights(model, load_checkpoint(self.run.best)["model"], self.run.best)
        elif average is not None:
            load_weights(model, average.module.state_dict(), self.run.last)
        if stage.number == 1:
            self._save_weights(self.run.stage1, None)
        self._save_weights(self.run.final, None)
        result = self._evaluate(None, self.test_batches, confusion=len(self.data.classes) <= 200)
        result["selected"] = config.select
        result["selected_on"] = (
            None if config.select == "last" else "val" if self.val_batches else "test"
        )
        return result

    def _prepare_classifier(self) -> None:
        """Freeze all but the classifier, and start it afresh."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        for parameter in self.model.classifier.parameters():
            parameter.requires_grad_(True)
        if self.config.crt_init == "fresh":
            torch.manual_seed(mix(self.config.seed, 2))
            self.model.classifier.reset_parameters()

    def _set_mode(self, stage: Stage) -> None:
        frozen = stage.number == 2 and self.config.crt_batchnorm == "eval"
        self.model.train(not frozen)

    def _average(self) -> AveragedModel | None:
        if not self.config.ema:
            return None
        average = get_ema_multi_avg_fn(self.config.ema)
        return AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)

    # ---- one step ----

    def _training_logits(self, images: Tensor, labels: Tensor, plan: Any) -> tuple[Tensor, Tensor]:
        if plan is None:
            return self.model(images), labels
        return self.model.forward_augmented(images, labels, plan)

    def _loss(
        self,
        stage: Stage,
        epoch: int,
        step: int,
        images: Tensor,
        labels: Tensor,
        totals: _Totals,
    ) -> Tensor:
        """Loss of one micro-batch; labels are the host's."""
        config, device = self.config, self.device
        dtype = _AMP.get(config.amp)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            if stage.number == 2:
                with torch.no_grad():
                    embeddings = self.model.embed(images)
                logits = self.model.classifier(embeddings)
                all_labels = labels.to(device, non_blocking=True)
            else:
                plan = None
                if config.method == "ltvr" and generates(epoch, config.lay_back_epoch):
                    plan = plan_synthesis(
                        labels,
                        gamma=config.gamma,
                        alpha=config.alpha,
                        seed=config.seed,
                        step=step,
                    )
                    totals.synthetic_counts += torch.bincount(
                        plan.labels, minlength=len(self.data.classes)
                    )
                    plan = plan.to(device, non_blocking=True)
                logits, all_labels = self._forward(
                    images, labels.to(device, non_blocking=True), plan
                )
        loss = lay_back_loss(logits.float(), all_labels, len(labels), config.loss_weight)
        totals.add(loss, logits, all_labels, len(labels))
        return loss.total

    # ---- what a person sees, and files ----

    def _progress(
        self,
        batches: Iterator[tuple[Tensor, Tensor]],
        stage: Stage,
        epoch: int,
        start: int,
        steps: int,
        micro: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        bar = tqdm(
            desc=f"stage {stage.number} epoch {epoch + 1}/{stage.epochs}",
            total=steps * micro,
            initial=start * micro,
            unit=" images",
            leave=False,
            disable=not sys.stderr.isatty(),
        )
        with bar:
            for images, labels in batches:
                yield images, labels
                bar.update(len(labels))

    def _publish(self, record: dict[str, Any], stage: Stage) -> None:
        measured = record["eval"]
        loss = f"loss {record['real_loss']:.3f}"
        if record["synthetic_loss"] is not None:
            loss += f" (synthetic {record['synthetic_loss']:.3f})"
        shots = " ".join(
            f"{name} {measured[name]:.1f}" if measured[name] is not None else f"{name} n/a"
            for name in ("all", "many", "medium", "few")
        )
        left = record["seconds"] * (stage.epochs - record["epoch"])
        self.say(
            f"stage {stage.number} epoch {record['epoch']}/{stage.epochs}  {loss}  "
            f"{record['evaluated_on']}: {shots}  {record['images_per_second']:.0f} images/s, "
            f"{left:.0f} s left"
        )
        at = record["epoch"] + (self.config.epochs if stage.number == 2 else 0)
        for name in ("lr", "real_loss", "synthetic_loss", "real_accuracy", "synthetic_accuracy"):
            if record[name] is not None:
                self.writer.add_scalar(f"train/{name}", record[name], at)
        for name, value in measured.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{record['evaluated_on']}/{name}", value, at)

    def _evaluate(
        self, average: AveragedModel | None, batches: Batches, confusion: bool = False
    ) -> dict[str, Any]:
        model: nn.Module = average.module if average is not None else self.model
        c = self.config
        dtype = _AMP.get(c.amp)
        with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            return evaluate(
                model,
                batches.evaluate(c.eval_batch_size),
                self.data.counts,
                many_above=c.many_above,
                few_below=c.few_below,
                confusion=confusion,
            )

    def _save_weights(self, path: Any, average: AveragedModel | None) -> None:
        model = average.module if average is not None else self.model
        save_checkpoint(path, {"model": model.state_dict()})

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn Ctrl-C and SIGTERM into a stop at the next whole step."""

        def stop(number: int, _: Any) -> None:
            if self._stopping:
                raise KeyboardInterrupt
            self._stopping = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)
