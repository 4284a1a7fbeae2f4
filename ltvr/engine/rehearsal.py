"""What a run would take: steps of every stage on random images, of a size that fits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltvr.clock import Clock, stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.splits import Data
from ltvr.engine import memory
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.state import StageState
from ltvr.engine.step import Step
from ltvr.engine.training import network_to_train, train_epoch
from ltvr.errors import UserError
from ltvr.networks.network import Network
from ltvr.networks.weights import without_initial_weights
from ltvr.stages.base import Classes
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["MicroBatchCost", "Phase", "Rehearsal", "extrapolated", "rehearse"]

LONG = 4.0
"""Seconds of a step after which no larger one is tried."""
SHORT = 1.0
"""A step of fewer seconds is taken up to three times, of which the fastest counts."""
ROOM = 0.8
"""Share of the memory that the next step, of twice the size, may be expected to take."""
SMALLEST = 2
"""Images of the first step: BatchNorm takes two."""
ENOUGH = 8
"""Images of the step after which the measuring may end: of fewer the memory peaks in the
update of the weights, which does not grow with the images."""


class MicroBatchCost(NamedTuple):
    """Of the forward pass, the backward pass, and the update of the weights."""

    images: int
    generated: int
    """Rows that are generated from them."""
    seconds: float
    peak: float
    """Bytes in use at most, as ``ltvr.engine.memory`` counts them."""


class Phase(NamedTuple):
    """Epochs of a stage that cost the same: those that generate samples, or those that do not."""

    title: str
    """Of the stage."""
    epochs: int
    steps: int
    """Of an epoch."""
    accumulate: int
    """Micro-batches of a step."""
    measured: list[MicroBatchCost]
    """By rising size."""
    cost: MicroBatchCost
    """Of a micro-batch of the run: the last one measured, or an estimate from those."""

    @property
    def estimated(self) -> bool:
        """Whether a micro-batch of the run was too large to be measured."""
        return self.measured[-1].images < self.cost.images

    @property
    def step_seconds(self) -> float:
        """Of a step, which is one update of the weights."""
        return self.cost.seconds * self.accumulate


class Rehearsal(NamedTuple):
    """What a run would take."""

    parameters: int
    phases: list[Phase]
    evaluated: int
    """Images that pass forward alone, in all of the run."""
    evaluation_seconds: float
    """Of one of them."""
    weights: int
    """Bytes of the weights."""
    checkpoint: int
    """Bytes of ``last.pt`` in the stage whose is largest."""
    folder: int
    """Bytes of all checkpoints of the run."""

    @property
    def seconds(self) -> float:
        """Of the whole run, reading images left out."""
        training = sum(p.epochs * p.steps * p.step_seconds for p in self.phases)
        return training + self.evaluated * self.evaluation_seconds


def rehearse(config: Config, data: Data, device: torch.device) -> Rehearsal:
    """Take steps of every stage, without generation and with it, in micro-batches of rising size.

    Their sizes double up to that of the run as long as a step is short and fits. The stages follow
    one another in one network, which begins with random weights.

    Args:
        config: of the run.
        data: ``ltvr.data.datasets.stub_data``, on the device.

    Raises:
        UserError: a network that cannot be trained as configured, or a step that does not fit.
        Diverged: a loss that is not finite.
    """
    config, run = without_initial_weights(config), config.of(RunOptions)
    network = network_to_train(config, len(data.classes), device, say=lambda line: None)
    stages = {name: stage for name, stage in stages_of(config).items() if stage.epochs}
    phases: list[Phase] = []
    checkpoints = []
    for name, stage in stages.items():
        stage.prepare(network, stream(run.seed, name))
        network.to(device)  # what the stage may have put into it
        # Not begun (Stage.begin): that takes a pass over all images, and gives values alone.
        of_stage, checkpoint = _rehearse_stage(name, network, config, data, device)
        phases += of_stage
        checkpoints.append(checkpoint)
    weights, checkpoint = _bytes(network.state_dict()), max(checkpoints, default=0)
    return Rehearsal(
        sum(parameter.numel() for parameter in network.parameters()),
        phases,
        _evaluated(config, data),
        _evaluation_seconds(network, config, data, device, phases),
        weights,
        checkpoint,
        3 * checkpoint + sum(checkpoints) + (len(stages) + 1) * weights,
    )


def _rehearse_stage(
    name: str, network: Network, config: Config, data: Data, device: torch.device
) -> tuple[list[Phase], int]:
    """The phases of a stage that ``network`` is prepared for, and the bytes of its checkpoint."""
    stage, training = stages_of(config)[name], config.of(TrainingOptions)
    size, epochs = training.batch_size // training.accumulate, stage.epochs
    generated = _generated(name, config, data)
    kinds = {
        generates: [epoch for epoch in range(epochs) if (generated[epoch] is not None) == generates]
        for generates in (False, True)
    }
    kinds = {generates: of_kind for generates, of_kind in kinds.items() if of_kind}
    measured: dict[bool, list[MicroBatchCost]] = {generates: [] for generates in kinds}
    checkpoint = 0
    for images in _sizes(size):
        costs = {}
        try:
            for generates, of_kind in kinds.items():
                costs[generates], checkpoint = _measure(
                    name, network, config, data, device, images, of_kind[len(of_kind) // 2]
                )
        except torch.OutOfMemoryError:
            if images > SMALLEST:
                break
            raise UserError(
                f"batch_size: a step of {images} images does not fit into the "
                f"{memory.capacity(device) / 1e9:.1f} GB of the device; lower --image-size, or "
                "take a smaller --backbone"
            ) from None
        for generates, cost in costs.items():
            measured[generates].append(cost)
        slow = max(cost.seconds for cost in costs.values()) > LONG
        full = 2 * max(cost.peak for cost in costs.values()) > ROOM * memory.capacity(device)
        if images >= ENOUGH and (slow or full):
            break
    steps = len(data.train) // training.batch_size
    phases = []
    for generates, of_kind in kinds.items():
        rows = generated[of_kind[len(of_kind) // 2]] or 0
        cost = extrapolated(measured[generates], measured.get(False, []), size, rows)
        own = measured[generates]
        phases.append(Phase(stage.title, len(of_kind), steps, training.accumulate, own, cost))
    return phases, checkpoint


def _generated(name: str, config: Config, data: Data) -> list[int | None]:
    """Rows that are generated from the first micro-batch, by epoch; None where there is no plan."""
    stage, training = stages_of(config)[name], config.of(TrainingOptions)
    clock = Clock(config.of(RunOptions).seed, name, stage.epochs, 1)
    order = stage.sampler.epoch(data.train.labels, seed=clock.seed, epoch=0, epochs=clock.epochs)
    chosen = order[: training.batch_size // training.accumulate]
    labels = torch.from_numpy(data.train.labels[chosen])
    groups = max(training.groups // training.accumulate, 1)
    plans = (
        stage.plan(labels, replace(clock, epoch=epoch), groups, _classes(data))
        for epoch in range(clock.epochs)
    )
    return [None if plan is None else len(plan.labels) for plan in plans]


def _classes(data: Data) -> Classes:
    """What a stage is told of the classes; as if the network took any image for any of them."""
    number = len(data.classes)
    return Classes(data.counts, torch.full((number, number), 1 / number, dtype=torch.float64))


def _sizes(size: int) -> Iterator[int]:
    """Sizes of micro-batches up to ``size``, each twice the one before."""
    images = min(SMALLEST, size)
    while images < size:
        yield images
        images *= 2
    yield size


def _measure(
    name: str,
    network: Network,
    config: Config,
    data: Data,
    device: torch.device,
    images: int,
    epoch: int,
) -> tuple[MicroBatchCost, int]:
    """The cost of a micro-batch in an epoch of a stage, and the bytes of a checkpoint then."""
    training = config.of(TrainingOptions)
    group = training.synthesis_group
    if images < training.batch_size // training.accumulate:  # a power of 2, as are then its groups
        group = 2 ** int(math.log2(group))
    config = config.replaced(batch_size=images, accumulate=1, synthesis_group=group)
    stage, run = stages_of(config)[name], config.of(RunOptions)
    clock = Clock(run.seed, name, stage.epochs, 1, epoch=epoch)
    counts = torch.from_numpy(data.counts).to(device)
    loss = stage.training_loss(network, counts).to(device)
    state = StageState(Step(network, loss), stage, config, clock, len(data.classes))
    state.confusions = _classes(data).confusions  # those of a run take a pass over its images
    step = torch.compile(state.step) if run.compile else state.step
    batches, labels = Batches(data.train, config, device), data.train.labels
    memory.start_measuring(device)
    seconds: list[float] = []
    warms_up = run.compile or device.type == "cuda"
    while len(seconds) < 3 and (not seconds or warms_up or seconds[-1] < SHORT):
        state.clock = clock
        began = time.perf_counter()
        stage.sampler.epoch(labels, seed=run.seed, epoch=epoch, epochs=stage.epochs)
        ordered = time.perf_counter()
        train_epoch(stage, state, step, batches)  # of one step
        seconds.append(max(time.perf_counter() - ordered - (ordered - began), 0.0))
    generated = int(state.totals.synthetic_counts.sum()) // len(seconds)
    peak = memory.most_used(device)
    return MicroBatchCost(images, generated, min(seconds), peak), _bytes(state.state_dict())


def extrapolated(
    costs: list[MicroBatchCost], plain: list[MicroBatchCost], images: int, generated: int
) -> MicroBatchCost:
    """The cost of a larger micro-batch than those measured; the last of them if it is that large.

    Time goes with the images, memory rises as a line through all sizes does. What generation adds
    to the last size goes with the rows that are generated.

    Args:
        costs: measured, by rising size.
        plain: of the same sizes without generation; empty where all epochs generate.
        images, generated: of the micro-batch that is asked for.
    """
    last = costs[-1]
    if last.images == images:
        return last
    sizes = plain or costs
    base, slope = sizes[-1], sizes[-1].peak / sizes[-1].images
    if len(sizes) > 1:
        slope = float(np.polyfit([c.images for c in sizes], [c.peak for c in sizes], 1)[0])
    seconds = base.seconds * images / base.images
    peak = base.peak + max(slope, 0.0) * (images - base.images)
    if last.generated and base is not last:
        share = generated / last.generated
        seconds += max(last.seconds - base.seconds, 0.0) * share
        peak += max(last.peak - base.peak, 0) * share
    return MicroBatchCost(images, generated, seconds, peak)


def _evaluated(config: Config, data: Data) -> int:
    """Images that pass forward alone: after epochs, at the end of stages, for the protocol."""
    run, number = config.of(RunOptions), 0
    statistics = min(run.batchnorm_images, len(data.train))
    for stage in stages_of(config).values():
        times = math.ceil(stage.epochs / run.evaluate_every)
        number += times * len(data.val or data.test) + len(data.test)
        number += 2 * (len(data.test) + statistics) if statistics else 0
        if stage.settles:
            chosen = config.of(TrainingOptions).select == "best"
            number += (times + 1 if chosen else 1) * len(data.train)
    return number


def _evaluation_seconds(
    network: Network, config: Config, data: Data, device: torch.device, phases: list[Phase]
) -> float:
    """Seconds that an image takes in evaluation, of as many as a step was taken of."""
    images = min((phase.measured[-1].images for phase in phases), default=SMALLEST)
    few = Batches(data.train.take(np.arange(images)), config, device)
    seconds = []
    for _ in range(2):  # the first begins with what is made once
        began = time.perf_counter()
        evaluate_split(network, few, data.counts)
        seconds.append(time.perf_counter() - began)
    return min(seconds) / images


def _bytes(state: object) -> int:
    """Bytes of the tensors in the dictionaries and lists of a state."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(_bytes(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(_bytes(value) for value in state)
    return 0
