"""BatchNorm statistics of what inference sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.optim.swa_utils import update_bn

from ltvr.clock import stream
from ltvr.config.config import Config
from ltvr.config.options import NoOptions
from ltvr.config.run import RunOptions
from ltvr.device import autocast
from ltvr.samplers.instance import Instance

if TYPE_CHECKING:
    from ltvr.data.batches import Batches

__all__ = ["measure_real_statistics"]


def measure_real_statistics(network: nn.Module, batches: Batches, config: Config) -> None:
    """Replace the running statistics of ``network`` by those of the real images, each once.

    From epoch t on a training batch also holds generated samples, mostly of rare classes, and the
    running statistics behind the decomposition are of both; inference sees real images alone.

    Args:
        batches: of the training split, augmented as in training; a pure function of the seed. An
            incomplete last batch is dropped.
    """
    run = config.of(RunOptions)
    seed = stream(run.seed, "statistics")
    order = Instance(NoOptions()).epoch(batches.split.labels, seed=seed, epoch=0, epochs=1)
    size = min(run.eval_batch_size, len(order))
    with autocast(run.amp, batches.device):
        update_bn(batches.train(order, size, seed=seed, epoch=0), network)
