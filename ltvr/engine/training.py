"""An epoch of training, and the network that it trains; ``trainer.py`` keeps what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ltvr import distributed
from ltvr.afa import ops
from ltvr.clock import Clock, mix, stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.decompositions.options import GenerationOptions
from ltvr.device import autocast, memory_format
from ltvr.engine.confusions import confusions
from ltvr.engine.cut import Cut
from ltvr.engine.progress import progress
from ltvr.engine.schedule import learning_rate
from ltvr.engine.state import StageState
from ltvr.engine.whole import Whole
from ltvr.errors import Diverged, UserError
from ltvr.mixing.base import Mixing, with_partners
from ltvr.networks.batchnorm import check_rows, moves_statistics
from ltvr.networks.build import build_network, choose_backend
from ltvr.networks.network import Network
from ltvr.samplers.base import Sampler
from ltvr.stages.base import Classes, Stage
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["network_to_train", "train_epoch"]


def network_to_train(
    config: Config, classes: int, device: torch.device, say: Callable[[str], None]
) -> Network:
    """The network of a configuration on its device, drawn by its seed.

    Args:
        say: what prints a line, on weights that were loaded from a file, and on BatchNorm by rank.

    Raises:
        UserError: a network that cannot be built, or trained, as configured.
    """
    run, training = config.of(RunOptions), config.of(TrainingOptions)
    synchronised = run.sync_bn and distributed.ranks() > 1
    if synchronised:
        _check_synchronised(config, device)
    torch.manual_seed(run.seed)
    network = build_network(config, classes, choose_backend(config, device), say)
    by_rank = 0
    for stage in (each for each in stages_of(config).values() if each.epochs):
        stage.train_mode(network)
        rows = Cut.of(training, stage).rows
        check_rows(network, rows)
        if moves_statistics(network) and not synchronised and distributed.ranks() > 1:
            by_rank = rows
        if stage.mixing is not None:
            stage.mixing.check(network.stages)
    if network.decomposition is not None:
        try:
            ops.require_extension()  # the plans are made there
        except RuntimeError as error:
            raise UserError(str(error)) from None
    if synchronised:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if by_rank:
        say(
            f"BatchNorm is over the {by_rank} image{'s' * (by_rank > 1)} of a rank at a time, so "
            "that results differ with the number of ranks; --sync-bn, on GPUs, is over those of all"
        )
    return network.to(device).to(memory_format=memory_format(run.channels_last))


def _check_synchronised(config: Config, device: torch.device) -> None:
    """Refuse BatchNorm of all ranks where it cannot be, or where they would wait for each other.

    Raises:
        UserError: says why.
    """
    if device.type != "cuda":
        raise UserError("sync_bn: BatchNorm of all ranks takes GPUs; leave out --sync-bn")
    generation = config.of(GenerationOptions)
    own = generation.generated_batchnorm == "own"
    if own and config.effective().get("fixed_size") is False:
        raise UserError(
            "sync_bn: with --generated-batchnorm own a rank whose part of a batch generates "
            "nothing would keep the others waiting; add --fixed-size, or leave out --sync-bn"
        )


def train_epoch(
    stage: Stage,
    state: StageState,
    step: Any,
    batches: Batches,
    stepped: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train (the rest of) an epoch.

    Args:
        step: that of ``state``, or what ``torch.compile`` and ``DistributedDataParallel`` make
            of it.
        batches: of the training split.
        stepped: called after every step of the optimizer; it may raise.

    Returns:
        Its record, without the evaluation.

    Raises:
        Diverged: the loss is not finite any more.
    """
    clock, cut = state.clock, Cut.of(stage.config.of(TrainingOptions), stage)
    labels = batches.split.labels
    state.totals.begin()
    stage.train_mode(state.step.network)
    state.step.begin_epoch(clock, learning_rate(stage, replace(clock, step=0)))
    mixing = stage.mixing
    if mixing is not None and clock.epoch not in mixing.epochs(clock.epochs):
        mixing = None
    order, rows, places = _order(stage, mixing, labels, clock, cut)
    seed = stream(clock.seed, clock.stage)
    read = batches.train(order, rows, seed=seed, epoch=clock.epoch, start=clock.step, parts=places)
    of_steps = torch.from_numpy(labels[order]).split(rows)
    if state.confusions is None and stage.needs_confusions(clock.epoch):
        state.confusions = confusions(state.step.network, batches, state.classes)
    counts = np.bincount(labels, minlength=state.classes).astype(np.int64)
    known = Classes(counts, state.confusions)
    image_size = stage.config.of(DataOptions).image_size
    what = f"{clock.stage} epoch {clock.epoch + 1}/{clock.epochs}"
    done, total = clock.step * rows // cut.ranks, clock.steps * rows // cut.ranks
    with closing(read):
        for images, _ in progress(read, what, done, total):
            now = state.clock
            if now.micro_batch == 0:
                whole = Whole.decide(
                    stage,
                    mixing,
                    state.step.loss,
                    of_steps[now.step],
                    now,
                    cut,
                    known,
                    image_size,
                    state.device,
                )
                state.totals.count(whole.synthetic_counts(state.classes))
            last = now.micro_batch + 1 == cut.accumulate
            # Until the last micro-batch gradients add up on each rank by itself.
            alone = isinstance(step, DistributedDataParallel) and not last
            with step.no_sync() if alone else nullcontext():
                loss = _loss(stage, state, step, images, whole, cut)
                # Ranks average their gradients, which are parts of a sum: the factor makes it one.
                state.scaler.scale(loss * cut.ranks).backward()
            state.clock = replace(now, micro_batch=now.micro_batch + 1)
            if last:
                state.update(learning_rate(stage, state.clock))
                stepped()
    means = state.totals.means()
    mean = means["real_loss"] if means["real_loss"] is not None else means["synthetic_loss"]
    if not np.isfinite(mean or 0.0):
        raise Diverged(
            f"the loss became {mean} in epoch {clock.epoch + 1} of stage "
            f"{clock.stage}; start again with a lower {stage.lr_flag} or with --warmup-epochs"
        )
    seconds = state.totals.seconds
    return {
        "stage": clock.stage,
        "epoch": clock.epoch + 1,
        "lr": learning_rate(stage, replace(clock, step=clock.steps - 1)),
        **means,
        "synthetic_counts": state.totals.synthetic_counts.tolist(),
        "seconds": round(seconds, 3),
        "images_per_second": round(clock.steps * cut.batch_size / seconds, 1),
    }


def _order(
    stage: Stage, mixing: Mixing | None, labels: Int64Array, clock: Clock, cut: Cut
) -> tuple[Int64Array, int, list[Int64Array]]:
    """Which images an epoch reads.

    Returns:
        The samples, those of a step after those of another, its partners last; how many of them
        are of a step; and for each micro-batch of this rank its places among these.
    """

    size = cut.batch_size

    def drawn(sampler: Sampler, name: str) -> Int64Array:
        seed = stream(clock.seed, name)
        order = sampler.epoch(labels, seed=seed, epoch=clock.epoch, epochs=clock.epochs)
        return order[: clock.steps * size]

    order = drawn(stage.sampler, clock.stage)
    if mixing is None or mixing.partners is None:
        return order, size, cut.places
    partners = drawn(mixing.partners, f"{clock.stage}/partners")
    places = [np.concatenate([own, size + own]) for own in cut.places]
    return with_partners(order, partners, size), 2 * size, places


def _loss(
    stage: Stage,
    state: StageState,
    step: Callable[..., Any],
    images: Tensor,
    whole: Whole,
    cut: Cut,
) -> Tensor:
    """What one micro-batch adds to the loss of its step.

    Args:
        images: [B, 3, S, S] of the micro-batch, on the device; [2B, 3, S, S] with their partners.
        whole: of the step.
    """
    clock, device = state.clock, state.device
    number = cut.numbers[clock.micro_batch]
    # Whatever a layer draws, such as dropout, follows from the part of the batch that it sees.
    torch.manual_seed(mix(stream(clock.seed, f"{clock.stage}/layers"), clock.steps_done, number))
    mixture, plan = whole.part(number, stage, cut, state.classes)
    images, blend = mixture.images(images), mixture.blend(device)
    plan = plan.to(device) if plan is not None else None
    real = len(images)
    with autocast(stage.config.of(RunOptions).amp, device):
        rows = step(images, mixture.targets.to(device), plan, blend)
    loss = stage.total(rows.values, rows.weights, real, whole.divisors)
    state.totals.add(loss, rows, real, (whole.real, whole.generated))
    return loss.total
