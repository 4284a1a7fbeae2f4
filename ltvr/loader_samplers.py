"""The long-tailed samplers for any ``DataLoader``, on one process or on several ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from ltvr import distributed
from ltvr.afa.checks import check_integer
from ltvr.config.options import NoOptions
from ltvr.errors import brief
from ltvr.samplers.base import Sampler as Order
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions
from ltvr.samplers.effective_number import ByEffectiveNumber, EffectiveNumberSamplerOptions
from ltvr.samplers.instance import Instance
from ltvr.samplers.progressive import Progressive, ProgressiveOptions
from ltvr.samplers.square_root import SquareRoot

__all__ = [
    "ClassAwareSampler",
    "EffectiveNumberSampler",
    "EpochSampler",
    "InstanceSampler",
    "ProgressiveSampler",
    "SquareRootSampler",
]


class EpochSampler(Sampler[int]):
    """The order of an epoch, of which every rank takes each W-th sample.

    An epoch has as many samples as the data set, n; where classes are balanced, those of rare ones
    come several times in it, and some of frequent ones not at all. The order is a pure function of
    ``seed`` and of the epoch, the same on every rank, as of ``DistributedSampler``: call
    ``set_epoch(e)`` before each, or every epoch has the order of epoch 0.

    Rank r of W takes the samples r, r + W, r + 2W, ... of it:
    with batches of b images on each rank, the W b images of a step are the same for every W.

    Args:
        labels: [n] the class of each sample, as integers.
        seed: of the order, the same on every rank.
        rank, world_size: of this process; by default those of ``torch.distributed``, or the only
            one where it is not initialised.
        epochs: that are to come, for an order that changes over them.

    Raises:
        TypeError, ValueError: labels that are no list of integers >= 0, or numbers out of range.
        RuntimeError: several ranks that do not know of each other yet.
    """

    order: Order

    def __init__(
        self,
        labels: npt.ArrayLike | torch.Tensor,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        epochs: int = 1,
    ) -> None:
        if (rank is None) != (world_size is None):
            raise ValueError(
                f"rank = {rank}, world_size = {world_size}: give both, or leave both to "
                "torch.distributed"
            )
        if world_size is None and distributed.launched() > 1 and distributed.ranks() == 1:
            raise RuntimeError(
                "torchrun has started several ranks, and torch.distributed is not initialised yet; "
                "make the sampler after init_process_group, or give rank and world_size"
            )
        if isinstance(labels, torch.Tensor):
            labels = labels.detach().cpu().numpy()
        self.labels: npt.NDArray[Any] = np.asarray(labels)
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu" or not len(self.labels):
            raise TypeError(f"labels = {brief(labels)}: expected one class, an integer, a sample")
        if self.labels.min() < 0:
            raise ValueError(
                f"labels: found {self.labels.min()}; leave out samples without a class"
            )
        self.world_size = check_integer(
            "world_size",
            distributed.ranks() if world_size is None else world_size,
            1,
            "the number of ranks",
        )
        self.rank = check_integer(
            "rank", distributed.rank() if rank is None else rank, 0, "the number of a rank, from 0"
        )
        if self.rank >= self.world_size:
            raise ValueError(f"rank = {rank}: expected 0 to {self.world_size - 1}")
        if len(self.labels) < self.world_size:
            raise ValueError(f"{len(self.labels)} samples for {self.world_size} ranks: too few")
        self.seed = check_integer("seed", seed, 0, "an integer >= 0")
        self.epochs = check_integer("epochs", epochs, 1, "the number of epochs")
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch, from 0, is read next; before each, or it has the order of the last."""
        self.epoch = check_integer("epoch", epoch, 0, "an epoch, from 0")

    def __len__(self) -> int:
        """Samples of this rank in an epoch: n / W, as of every other; what is over is left out."""
        return len(self.labels) // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = self.order.epoch(
            self.labels, seed=self.seed, epoch=self.epoch, epochs=max(self.epochs, self.epoch + 1)
        )
        whole = len(self) * self.world_size
        return iter(order[self.rank : whole : self.world_size].tolist())


class InstanceSampler(EpochSampler):
    """Each sample once, shuffled: p_k = n_k / N."""

    order = Instance(NoOptions())


class ClassAwareSampler(EpochSampler):
    """p_k = 1 / C: the classes in shuffled cycles, four samples of each in a row.

    An epoch has n samples, about n / C of each class; ``set_epoch(e)`` before each gives another
    order. ``ltvr.samplers.class_aware.ClassAware``. Striding spreads the four over the ranks.

    Args:
        draw: ``cycles``, or ``multinomial`` to draw classes and samples with replacement.
        others: as of all samplers: ``labels``, ``seed``, ``rank``, ``world_size``, ``epochs``.
    """

    def __init__(
        self, labels: npt.ArrayLike | torch.Tensor, *, draw: Any = "cycles", **others: Any
    ) -> None:
        super().__init__(labels, **others)
        self.order = ClassAware(ClassAwareOptions(class_aware_draw=draw))


class SquareRootSampler(EpochSampler):
    """p_k ~ sqrt(n_k), with replacement."""

    order = SquareRoot(NoOptions())


class ProgressiveSampler(EpochSampler):
    """From p_k = n_k / N in the first of ``epochs`` to 1 / C in the last, with replacement.

    Args:
        epochs: E, of the training.
        others: as of all samplers: ``labels``, ``seed``, ``rank``, ``world_size``.
    """

    order = Progressive(ProgressiveOptions())

    def __init__(self, labels: npt.ArrayLike | torch.Tensor, *, epochs: int, **others: Any) -> None:
        super().__init__(labels, epochs=epochs, **others)


class EffectiveNumberSampler(EpochSampler):
    """p_k ~ n_k (1 - beta) / (1 - beta^n_k), with replacement.

    Args:
        beta: 0 to below 1.
        others: as of all samplers: ``labels``, ``seed``, ``rank``, ``world_size``, ``epochs``.
    """

    def __init__(
        self, labels: npt.ArrayLike | torch.Tensor, *, beta: float = 0.9999, **others: Any
    ) -> None:
        super().__init__(labels, **others)
        options = EffectiveNumberSamplerOptions(effective_number_sampler_beta=beta)
        self.order = ByEffectiveNumber(options)
