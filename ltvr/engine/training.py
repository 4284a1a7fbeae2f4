"""An epoch of training, and the network that it trains; ``trainer.py`` keeps what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltvr.afa import ops
from ltvr.clock import Clock, stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.device import autocast, memory_format
from ltvr.engine.progress import progress
from ltvr.engine.schedule import learning_rate
from ltvr.engine.state import StageState
from ltvr.errors import Diverged, UserError
from ltvr.mixing.base import Mixing, with_partners
from ltvr.networks.batchnorm import check_rows
from ltvr.networks.build import build_network, choose_backend
from ltvr.networks.network import Network
from ltvr.samplers.base import Sampler
from ltvr.stages.base import Stage
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["network_to_train", "train_epoch"]


def network_to_train(
    config: Config, classes: int, device: torch.device, say: Callable[[str], None]
) -> Network:
    """The network of a configuration on its device, drawn by its seed.

    Args:
        say: what prints the line on the weights that were loaded from a file.

    Raises:
        UserError: a network that cannot be built, or trained, as configured.
    """
    run, training = config.of(RunOptions), config.of(TrainingOptions)
    torch.manual_seed(run.seed)
    network = build_network(config, classes, choose_backend(config, device), say)
    for stage in (each for each in stages_of(config).values() if each.epochs):
        stage.train_mode(network)
        check_rows(network, training.batch_size // training.accumulate)
        if stage.mixing is not None:
            stage.mixing.check(network.stages)
    if network.decomposition is not None:
        try:
            ops.require_extension()  # the plans are made there
        except RuntimeError as error:
            raise UserError(str(error)) from None
    return network.to(device).to(memory_format=memory_format(run.channels_last))


def train_epoch(
    stage: Stage, state: StageState, step: Callable[..., Any], batches: Batches
) -> dict[str, Any]:
    """Train (the rest of) an epoch.

    Args:
        step: that of ``state``, or what ``torch.compile`` made of it.
        batches: of the training split.

    Returns:
        Its record, without the evaluation.

    Raises:
        Diverged: the loss is not finite any more.
    """
    clock, training = state.clock, stage.config.of(TrainingOptions)
    accumulate, size = training.accumulate, training.batch_size // training.accumulate
    labels = batches.split.labels
    total, start = clock.steps * accumulate, clock.step * accumulate
    began = time.perf_counter()
    stage.train_mode(state.step.network)
    state.step.begin_epoch(clock, learning_rate(stage, replace(clock, step=0)))
    mixing = stage.mixing
    if mixing is not None and clock.epoch not in mixing.epochs(clock.epochs):
        mixing = None
    order, rows = _order(stage.sampler, labels, clock, clock.stage)[: total * size], size
    if mixing is not None and mixing.partners is not None:
        partners = _order(mixing.partners, labels, clock, f"{clock.stage}/partners")
        order, rows = with_partners(order, partners[: total * size], size), 2 * size
    seed = stream(clock.seed, clock.stage)
    read = batches.train(order, rows, seed=seed, epoch=clock.epoch, start=start)
    counts = np.bincount(labels, minlength=state.classes).astype(np.int64)
    what = f"{clock.stage} epoch {clock.epoch + 1}/{clock.epochs}"
    with closing(read):
        for images, of_them in progress(read, what, start * rows, total * rows):
            loss = _loss(stage, mixing, state, step, images, of_them, counts)
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
    }


def _order(sampler: Sampler, labels: Int64Array, clock: Clock, name: str) -> Int64Array:
    """The samples of an epoch by the random numbers of the stream ``name``."""
    seed = stream(clock.seed, name)
    return sampler.epoch(labels, seed=seed, epoch=clock.epoch, epochs=clock.epochs)


def _loss(
    stage: Stage,
    mixing: Mixing | None,
    state: StageState,
    step: Callable[..., Any],
    images: Tensor,
    labels: Tensor,
    counts: Int64Array,
) -> Tensor:
    """The loss of one micro-batch; images are on the device, labels on the host.

    Args:
        mixing: of this epoch; ``images`` and ``labels`` are what it takes.
        counts: [C] training images of each class.
    """
    clock, device = state.clock, state.device
    targets, blend = Targets(labels), None
    if mixing is not None:
        images, targets, blend = mixing.mix(images, targets, counts, clock.random("mixing"))
        blend = blend.to(device) if blend is not None else None
    plan = stage.plan(targets.labels, clock, state.classes)
    if plan is not None:
        state.totals.count(plan)
        plan = plan.to(device)
    with autocast(stage.config.of(RunOptions).amp, device):
        rows = step(images, targets.to(device), plan, blend)
    loss = stage.total(rows.values, rows.weights, len(targets.labels))
    state.totals.add(loss, rows, len(targets.labels))
    return loss.total
