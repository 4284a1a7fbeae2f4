"""Accuracy of trained weights by the BatchNorm statistics that they are evaluated with."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ltvr.config.options import NoOptions
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.longtail import Int64Array
from ltvr.engine.accuracy_table import SUBSETS
from ltvr.engine.evaluation import evaluate_split
from ltvr.networks.batchnorm import (
    Statistics,
    measure_statistics,
    running_statistics,
    set_statistics,
)
from ltvr.networks.network import Network
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions
from ltvr.samplers.instance import Instance

__all__ = ["accuracy_by_statistics"]


def accuracy_by_statistics(
    network: Network,
    left: Statistics,
    moved: bool,
    reported: dict[str, Any],
    train: Batches,
    test: Batches,
    counts: Int64Array,
) -> dict[str, Any] | None:
    """Accuracy with the statistics of training, with those of real images, and class-balanced ones.

    The last two are measured on at most ``batchnorm_images`` training images, augmented as in
    training. Weights stay as they are. Each kind costs a pass over
    the images that the run is judged on, unless it is the one that is reported.

    Args:
        network: as it is reported.
        left: the statistics after training, before the stage settled the network.
        moved: whether training moved them, or kept those that it started with.
        reported: metrics of ``network`` on ``test``.
        counts: [C] training images of each class.

    Returns:
        ``accuracy`` by kind (``running``, or ``kept`` where they were not moved; ``real``;
        ``class-balanced``), in percent: of ``all``, ``many``, ``medium`` and ``few``; ``images``,
        how many the last two kinds are of; and ``reported``, the kind that the network has, or
        ``settled`` where the stage measured them otherwise. Kept ones that are equal to measured
        ones are of that kind. None for a network without BatchNorm.
    """
    own = running_statistics(network)
    if not own:
        return None
    tried, config = copy.deepcopy(network), train.config
    limit = config.of(RunOptions).batchnorm_images
    samplers = {"real": Instance(NoOptions()), "class-balanced": ClassAware(ClassAwareOptions())}
    first = "running" if moved else "kept"
    images, kinds, accuracy = 0, [], {}
    for kind in (first, *samplers):
        if kind == first:
            set_statistics(tried, left)
        else:
            images = measure_statistics(tried, train, config, samplers[kind], limit)
        now = running_statistics(tried)
        if all(torch.equal(now[name], own[name]) for name in own):
            kinds.append(kind)
            metrics = reported
        else:
            metrics = evaluate_split(tried, test, counts)
        accuracy[kind] = {name: metrics[name] for name in SUBSETS}
    # The last that is equal: what was measured says more than that a stage has kept it.
    kind_reported = kinds[-1] if kinds else "settled"
    return {"images": images, "reported": kind_reported, "accuracy": accuracy}
