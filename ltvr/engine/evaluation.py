"""Evaluation of a network on a split, by the settings of its configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from ltvr import distributed
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.device import autocast

__all__ = ["evaluate_split"]


def evaluate_split(
    network: nn.Module, batches: Batches, counts: Int64Array, *, confusion: bool = False
) -> dict[str, Any]:
    """Metrics of ``network`` on the split of ``batches``; see ``ltvr.engine.metrics.evaluate``.

    Several ranks share its batches, each image being seen once, and all return the same.

    Args:
        counts: [C] training images of each class.
        confusion: also the confusion matrix.
    """
    from ltvr.engine.metrics import evaluate

    run, data = batches.config.of(RunOptions), batches.config.of(DataOptions)
    with autocast(run.amp, batches.device):
        return evaluate(
            network,
            batches.evaluate(
                run.eval_batch_size,
                distributed.share_of(len(batches.split), run.eval_batch_size),
            ),
            counts,
            many_above=data.many_above,
            few_below=data.few_below,
            confusion=confusion,
        )
