"""The rows that probes look at: real ones, and those that the features stage would generate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltvr.backbones.base import dry_run
from ltvr.clock import Clock, stream
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.longtail import Int64Array
from ltvr.data.splits import Data, Split
from ltvr.engine.confusions import confusions
from ltvr.engine.trained import Trained
from ltvr.stages.base import Classes, Stage
from ltvr.stages.options import TrainingOptions

__all__ = [
    "ALONE",
    "Generated",
    "Rows",
    "classes_of",
    "features_of",
    "generated_rows",
    "real_rows",
    "shape_of_features",
]

ALONE = "i alone"
"""What tables call ``Generated.alone``."""


class Rows(NamedTuple):
    """What the layers behind the decomposition, the *head*, read and give; on the host, float32."""

    inputs: Tensor
    """[R, F], the head's input [D, H, W], flat."""
    embeddings: Tensor
    """[R, E], what the classifier reads."""
    logits: Tensor
    """[R, C]."""
    labels: Int64Array
    """[R]."""

    def space(self, name: str) -> Tensor:
        """The rows in the space ``head's input`` or ``embedding``: [R, F] or [R, E]."""
        return self.embeddings if name == "embedding" else self.inputs


class Generated(NamedTuple):
    """Generated rows, and of which real rows they are."""

    rows: Rows
    class_donor: Int64Array
    """[R] i, the position of the sample that gave X_class."""
    variation_donor: Int64Array
    """[R] j, that of the sample that gave X_var."""
    batches: int
    """That they were generated from."""
    alone: Rows
    """[R] the same with j = i, so that nothing is mixed; by eq. 11, V of the class donor."""


def shape_of_features(trained: Trained) -> tuple[int, int, int]:
    """(D, H, W) of the features that the decomposition reads."""
    size = trained.network.image_size
    images = torch.empty(1, 3, size, size, device="meta")
    channels, height, width = dry_run(trained.network.extractor, images, training=False).shape[1:]
    return channels, height, width


@torch.no_grad()
def features_of(
    trained: Trained, split: Split, size: int | None = None
) -> Iterator[tuple[Tensor, Int64Array]]:
    """Yield the features X [B, D, H, W] of images as evaluation sees them, and their labels [B].

    Args:
        size: B; None for that of evaluation.
    """
    for images, labels in trained.batches(split, size):
        with trained.autocast():
            features = trained.network.features(images)
        yield features, labels.numpy()


def real_rows(trained: Trained, split: Split, *, inputs: bool = False) -> Rows:
    """The rows of the images of a split, as inference has them: (enhanced) features (eq. 6).

    Args:
        inputs: keep the head's inputs, which may be large; else they are [R, 0].
    """
    decomposition = trained.network.decomposition
    found = []
    for features, labels in features_of(trained, split):
        with torch.no_grad(), trained.autocast():
            enhanced = features if decomposition is None else decomposition(features)
        rows = _through_head(trained, enhanced, labels)
        found.append(rows if inputs else rows._replace(inputs=rows.inputs[:, :0]))
    return _joined(found)


def classes_of(trained: Trained, stage: Stage, data: Data) -> Classes:
    """What the plans of the last epoch of a stage go by.

    Confusions, where it asks for them, are those of the weights at hand: what they were at t is in
    no checkpoint of the features.
    """
    taken = None
    if stage.needs_confusions(stage.epochs - 1):
        batches = Batches(data.train, trained.config, trained.device)
        taken = confusions(trained.network, batches, len(data.classes))
    return Classes(data.counts, taken)


def generated_rows(
    trained: Trained, split: Split, name: str, stage: Stage, classes: Classes, most: int
) -> Generated | None:
    """What the stage generates in its last epoch, of images without augmentation.

    Order, batches, groups and plan are those of that epoch where ``split`` is all that was trained
    on; the weights are those of ``trained``. Images are not augmented, and not mixed, so that the
    donors of a row are rows of ``real_rows`` to the last digit.

    Args:
        split: training images.
        name: of the stage.
        classes: of ``classes_of``.
        most: batches at most.

    Returns:
        None where nothing is generated.
    """
    options, run = trained.config.of(TrainingOptions), trained.config.of(RunOptions)
    decomposition, size = trained.network.decomposition, options.batch_size
    if decomposition is None or not stage.generates:
        return None
    epoch, seed = stage.epochs - 1, stream(run.seed, name)
    order = stage.sampler.epoch(split.labels, seed=seed, epoch=epoch, epochs=stage.epochs)
    steps = len(split) // size
    order = order[: min(steps, most) * size].reshape(-1, size)
    found, alone, donors = [], [], []
    features = features_of(trained, split.take(order.reshape(-1)), size)
    for step, (own, (x, labels)) in enumerate(zip(order, features, strict=True)):
        clock = Clock(run.seed, name, stage.epochs, steps, options.accumulate, epoch, step)
        plan = stage.plan(torch.from_numpy(labels), clock, options.groups, classes)
        if plan is None or not plan.generated:
            continue
        with torch.no_grad(), trained.autocast():
            rows, own_rows = (
                decomposition.generate(x, each.to(trained.device))[len(x) :]
                for each in (plan, plan.unmixed())
            )
        found.append(_through_head(trained, rows, plan.labels.numpy()))
        alone.append(_through_head(trained, own_rows, plan.labels.numpy()))
        donors.append(np.stack([own[plan.class_index], own[plan.variation_index]]))
    if not found:
        return None
    i, j = np.concatenate(donors, axis=1)
    return Generated(_joined(found), i, j, len(order), _joined(alone))


@torch.no_grad()
def _through_head(trained: Trained, inputs: Tensor, labels: Int64Array) -> Rows:
    network = trained.network
    with trained.autocast():
        embeddings = network.embedder(inputs)
        logits = network.logits(embeddings)
    flat = inputs.flatten(1).float().cpu()
    return Rows(flat, embeddings.float().cpu(), logits.float().cpu(), labels)


def _joined(found: list[Rows]) -> Rows:
    inputs, embeddings, logits, labels = zip(*found, strict=True)
    return Rows(torch.cat(inputs), torch.cat(embeddings), torch.cat(logits), np.concatenate(labels))
