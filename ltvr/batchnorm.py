"""BatchNorm statistics of what inference sees."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import update_bn

from ltvr.build import autocast
from ltvr.config import Config
from ltvr.data.batches import Batches, mix
from ltvr.data.samplers import epoch_order

__all__ = ["measure_real_statistics"]


def measure_real_statistics(model: nn.Module, batches: Batches, config: Config) -> None:
    """Replace the running statistics of ``model`` by those of the real images, each once.

    From epoch t on a training batch also holds generated samples, mostly of rare classes, and the
    running statistics of the head are of both; inference sees real images alone.

    Args:
        batches: of the training split, augmented as in training; a pure function of
            ``config.seed``. An incomplete last batch is dropped.
    """
    seed = mix(config.seed, 3)
    order = epoch_order("instance", batches.split.labels, seed=seed, epoch=0, epochs=1)
    size = min(config.eval_batch_size, len(order))
    with autocast(config, batches.device):
        update_bn(batches.train(order, size, seed=seed, epoch=0), model)
