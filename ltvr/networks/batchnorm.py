"""BatchNorm: what it needs of a batch, and statistics of what inference sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim.swa_utils import update_bn

from ltvr import distributed
from ltvr.backbones.base import dry_run
from ltvr.clock import mix, stream
from ltvr.config.config import Config
from ltvr.config.options import NoOptions
from ltvr.config.run import RunOptions
from ltvr.device import autocast
from ltvr.errors import UserError
from ltvr.networks.network import Network
from ltvr.samplers.base import Sampler
from ltvr.samplers.instance import Instance

if TYPE_CHECKING:
    from ltvr.data.batches import Batches

__all__ = [
    "Statistics",
    "check_rows",
    "measure_real_statistics",
    "measure_statistics",
    "moves_statistics",
    "moving_statistics",
    "running_statistics",
    "set_statistics",
]

Statistics = dict[str, Tensor]
"""Running means and variances, by name."""


def check_rows(network: Network, rows: int) -> None:
    """Refuse micro-batches that are too small for the normalisations of ``network``.

    Args:
        network: its parts in the modes that they train in.
        rows: images of a micro-batch.

    Raises:
        UserError: a normalisation that would be over one value.
    """
    if rows > 1 and not any(isinstance(part, _InstanceNorm) for part in network.modules()):
        return  # the others are over two images at least
    size = network.image_size
    images = torch.empty(min(rows, 2), 3, size, size, device="meta")
    try:
        dry_run(nn.Sequential(network.extractor, network.embedder), images)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"batch_size: with {rows} image{'s' * (rows > 1)} a micro-batch, of {size}x{size} "
            f"pixels, the network cannot be trained ({reason}); raise --batch-size, lower "
            "--accumulate, or raise --image-size"
        ) from None


def measure_real_statistics(network: nn.Module, batches: Batches, config: Config) -> None:
    """Replace the running statistics of ``network`` by those of the real images, each once.

    From epoch t on a training batch also holds generated samples, mostly of rare classes, and the
    running statistics behind the decomposition are of both; inference sees real images alone.

    Args:
        batches: of the training split, augmented as in training; a pure function of the seed. An
            incomplete last batch is dropped.
    """
    measure_statistics(network, batches, config, Instance(NoOptions()), len(batches.split))


def measure_statistics(
    network: nn.Module, batches: Batches, config: Config, sampler: Sampler, images: int
) -> int:
    """Replace the running statistics of ``network`` by the mean ones of batches of a sampler.

    Args:
        batches: as for ``measure_real_statistics``.
        images: that are taken at most, of the first of the sampler's epoch.

    Returns:
        The number that was taken, in whole batches of ``eval_batch_size``.
    """
    run = config.of(RunOptions)
    seed = stream(run.seed, "statistics")
    order = sampler.epoch(batches.split.labels, seed=seed, epoch=0, epochs=1)
    size = min(max(run.eval_batch_size, 2), len(order))  # one image has no statistics
    number = max(min(images, len(order)) // size, 1)
    first, ranks = distributed.rank(), distributed.ranks()
    read = batches.train(order[: number * size], size, seed=seed, epoch=0, start=first, every=ranks)
    device = batches.device
    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with forked, autocast(run.amp, device), _each_by_itself(network):
        update_bn(_seeded(read, seed, range(first, number, ranks)), network)
    distributed.barrier()  # it fails where a rank has ended; NCCL would wait for that one
    own = len(range(first, number, ranks))
    for module in (m for m in network.modules() if isinstance(m, _BatchNorm)):
        for buffer in (module.running_mean, module.running_var):
            if buffer is not None:  # the mean over all batches, whichever rank they were of
                distributed.sum_over_ranks(buffer.mul_(own / number))
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.fill_(number)
    return number * size


def _seeded(
    read: Iterable[tuple[Tensor, Tensor]], seed: int, numbers: Iterable[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches; what a layer draws, such as dropout, follows from the number of its batch."""
    for batch, number in zip(read, numbers, strict=True):
        torch.manual_seed(mix(seed, number))
        yield batch


@contextmanager
def _each_by_itself(network: nn.Module) -> Iterator[None]:
    """Let no BatchNorm wait for that of other ranks, which may see fewer batches."""
    synchronised = [m for m in network.modules() if isinstance(m, nn.SyncBatchNorm)]
    for module in synchronised:
        module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in synchronised:
            module.__class__ = nn.SyncBatchNorm


def running_statistics(network: nn.Module) -> Statistics:
    """A copy of the running statistics of ``network``, by name; empty without BatchNorm."""
    return {
        f"{name}.{kind}": buffer.clone()
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
        for kind, buffer in module.named_buffers()
        if kind.startswith("running_")
    }


def moves_statistics(network: nn.Module) -> bool:
    """Whether a forward pass of ``network``, in the modes that it is in, moves any of them."""
    return any(m.training for m in network.modules() if isinstance(m, _BatchNorm))


def moving_statistics(network: nn.Module) -> list[Tensor]:
    """The running statistics that training moves in every rank by its own part of a batch."""
    return [
        buffer
        for module in network.modules()
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
        if module.training
        for kind, buffer in module.named_buffers()
        if kind.startswith("running_")
    ]


def set_statistics(network: nn.Module, statistics: Statistics) -> None:
    """Put statistics of ``running_statistics`` back."""
    buffers = dict(network.named_buffers())
    for name, values in statistics.items():
        buffers[name].copy_(values)
