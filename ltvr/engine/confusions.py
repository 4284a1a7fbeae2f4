"""What a network takes the training images of each class for."""

from __future__ import annotations

import torch
from torch import Tensor

from ltvr import distributed
from ltvr.backbones.base import in_mode
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.device import autocast
from ltvr.networks.network import Network

__all__ = ["confusions"]

UNIT = 2.0**32
"""Parts that a probability is counted in: those of 2^31 images are an int64."""


@torch.no_grad()
def confusions(network: Network, batches: Batches, classes: int) -> Tensor:
    """Mean probabilities that the training images of each class are given: [C, C] float64.

    In eval mode, without augmentation; row c is the mean softmax over the images of class c, 0 for
    a class without images. Several ranks share the images, and all get the same.

    Args:
        batches: of the training split.
        classes: C.
    """
    run, number = batches.config.of(RunOptions), len(batches.split)
    # Of whole numbers, whose sum is the same in whatever order the ranks add them up.
    sums = torch.zeros(classes, classes, dtype=torch.int64)
    with autocast(run.amp, batches.device), in_mode(network, training=False):
        share = distributed.share_of(number, run.eval_batch_size)
        for images, labels in batches.evaluate(run.eval_batch_size, share):
            given = network(images).double().softmax(1).cpu()
            sums.index_add_(0, labels, (given * UNIT).round().long())
    distributed.sum_over_ranks(sums)
    return sums.double() / sums.sum(1, keepdim=True).clamp_min(1)
