"""A stage that trains the classifier alone, on embeddings instead of images."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ltvr.classifiers.base import Classifier
from ltvr.clock import Clock, stream
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.engine.schedule import learning_rate
from ltvr.engine.state import StageState
from ltvr.engine.step import Step
from ltvr.errors import Diverged, UserError
from ltvr.losses.base import Divisors
from ltvr.mixing.base import Blend
from ltvr.networks.network import Network
from ltvr.posthoc.embeddings import Embeddings
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["OfEmbeddings", "train_classifier", "views_of"]


class OfEmbeddings(Network):
    """A network whose images are embeddings [B, E]: the classifier is all of it.

    Args:
        classes: C.
    """

    def __init__(self, classifier: Classifier, classes: int) -> None:
        super().__init__(nn.Identity(), None, nn.Identity(), classifier, image_size=0)
        self._classes = classes

    @property
    def num_classes(self) -> int:
        """C."""
        return self._classes

    def features(self, images: Tensor, blend: Blend | None = None) -> Tensor:
        """The embeddings as they are: a stage of the classifier alone blends nothing."""
        return images


def train_classifier(
    config: Config,
    classifier: Classifier,
    train: Embeddings,
    classes: int,
    lr_factor: float = 1.0,
) -> Classifier:
    """Train a copy of a classifier as a stage would, with the backbone frozen in eval mode.

    Sampler, loss, start, schedule and optimizer are the stage's and the configuration's, and so are
    the random numbers: it draws the images that the stage itself would draw.

    Args:
        config: of one stage, which trains the classifier alone.
        classifier: that the first stage has left.
        train: on the device; an image that comes again is seen in the next of its views.
        classes: C.
        lr_factor: on the learning rates of the stage.

    Returns:
        The classifier in eval mode; the weight average, where the configuration has one.

    Raises:
        UserError: fewer images than a step takes.
        Diverged: weights that are no longer numbers.
    """
    ((name, stage),) = stages_of(config).items()
    options, run = config.of(TrainingOptions), config.of(RunOptions)
    labels, device = train.labels.numpy(), train.views.device
    steps = len(labels) // options.batch_size
    if not steps:
        raise UserError(
            f"batch_size = {options.batch_size}: {len(labels)} training images are left beside the "
            "hold-out; lower --choose-on, or name one of --lr-factors"
        )
    network, seed = OfEmbeddings(copy.deepcopy(classifier), classes), stream(run.seed, name)
    with torch.random.fork_rng(devices=[]):
        stage.prepare(network, seed)
    network.to(device)
    counts = torch.bincount(train.labels, minlength=classes).to(device)
    loss = stage.training_loss(network, counts).to(device)
    clock = Clock(run.seed, name, stage.epochs, steps, options.accumulate)
    state = StageState(Step(network, loss), stage, config, clock, classes)
    drawn = np.zeros(len(labels), np.int64)
    for epoch in range(stage.epochs):
        stage.train_mode(network)
        first = lr_factor * learning_rate(stage, state.clock)
        state.step.begin_epoch(state.clock, first)
        order = stage.sampler.epoch(labels, seed=seed, epoch=epoch, epochs=stage.epochs)
        order = order[: steps * options.batch_size]
        chosen = torch.from_numpy(views_of(order, drawn, len(train.views)))
        drawn += np.bincount(order, minlength=len(labels))
        for rows, views in zip(
            torch.from_numpy(order).chunk(steps), chosen.chunk(steps), strict=True
        ):
            of_step = Targets(train.labels[rows]).to(device)
            loss.begin_step(of_step, len(rows))
            divisors = Divisors.of(loss.row_weights(of_step), len(rows))
            for number in range(options.accumulate):
                part = slice(number, None, options.accumulate)
                targets = of_step.part(number, options.accumulate)
                found = state.step(train.views[views[part], rows[part]], targets, None)
                total = stage.total(found.values, found.weights, len(found.values), divisors).total
                state.scaler.scale(total).backward()
                state.clock = replace(state.clock, micro_batch=number + 1)
            state.update(lr_factor * learning_rate(stage, state.clock))
        state.next_epoch()
    trained = state.evaluated.classifier
    if not all(value.isfinite().all() for value in trained.state_dict().values()):
        raise Diverged(
            f"the head {name} became nan at {lr_factor:g} times its learning rate; lower "
            f"{stage.lr_flag}, or --lr-factors"
        )
    return trained.eval()


def views_of(order: Int64Array, drawn: Int64Array, views: int) -> Int64Array:
    """Which view each of the draws of an epoch sees, so that an image comes in all by turns: [n].

    Args:
        order: [n] the images that are drawn.
        drawn: by image, how often it has been drawn in the epochs before.
        views: V.
    """
    by_image = np.argsort(order, kind="stable")
    same = order[by_image]
    first = np.searchsorted(same, same)
    again = np.empty_like(order)
    again[by_image] = np.arange(len(order)) - first
    return (drawn[order] + again) % views
