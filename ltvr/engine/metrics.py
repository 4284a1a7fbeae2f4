"""What a long-tailed classifier is judged by.

torchmetrics takes three seconds to import: whoever evaluates imports this file when it begins to.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from ltvr import distributed
from ltvr.backbones.base import in_mode
from ltvr.data.longtail import Int64Array, shot_of
from ltvr.engine.accuracy_table import SHOTS
from ltvr.engine.balanced import balanced_accuracy, balanced_accuracy_error, mean_of_classes
from ltvr.errors import Diverged

__all__ = ["CalibrationError", "evaluate"]


class CalibrationError(Metric):
    """Expected calibration error: the mean distance of confidence from accuracy, bin by bin.

    ``sum_m n_m / n |accuracy_m - confidence_m|`` over 15 bins ((m-1)/15, m/15] of the confidence,
    the largest probability of a sample: Guo et al., On Calibration of Modern Neural Networks, ICML
    2017, eq. 5. A confidence of 1 is in the last bin; torchmetrics gives it one of its own, and
    puts what lies on an edge in the bin above. The sums are in float64.
    """

    BINS = 15
    confidence: Tensor
    correct: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("confidence", "correct", "samples"):
            sums = torch.zeros(self.BINS, dtype=torch.float64)
            self.add_state(name, sums, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add a batch: probabilities [B, C], labels [B]."""
        confidence, predicted = probabilities.max(1)
        confidence = confidence.double()
        edges = torch.arange(1, self.BINS, dtype=torch.float64, device=confidence.device)
        bins = torch.bucketize(confidence, edges / self.BINS)  # right-closed
        correct = (predicted == labels).double()
        self.confidence += bins.bincount(confidence, self.BINS)
        self.correct += bins.bincount(correct, self.BINS)
        self.samples += bins.bincount(minlength=self.BINS)

    def compute(self) -> Tensor:
        """The error, from 0 to 1, of all samples so far."""
        return (self.correct - self.confidence).abs().sum() / self.samples.sum()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    counts: Int64Array,
    *,
    many_above: int,
    few_below: int,
    confusion: bool = False,
) -> dict[str, Any]:
    """Metrics of ``model`` in eval mode over ``batches`` of images and host labels, in percent.

    With several ranks these are the batches of this one, and the metrics are of all.

    Args:
        counts: [C] training images of each class, which split the classes into many, medium, few.
        many_above, few_below: where; see ``DataOptions.shot_of``.
        confusion: also the confusion matrix, rows are the true class.

    Raises:
        Diverged: logits that are not finite.

    Returns:
        ``all`` (top-1 over the samples), ``many``, ``medium``, ``few`` (mean per-class top-1; None
        where no class is in the subset), ``per_class``, ``macro_f1``, ``worst_class``,
        ``calibration_error`` (``CalibrationError``), ``balanced_accuracy`` and its standard error
        ``balanced_accuracy_error`` (``ltvr.engine.balanced``). A class without test samples is
        None.
    """
    number = len(counts)
    parts: dict[str, Any] = {
        "correct": MulticlassAccuracy(number, average="micro"),
        "per_class": MulticlassAccuracy(number, average="none"),
        "macro_f1": MulticlassF1Score(number, average="none"),
        "calibration_error": CalibrationError(),
    }
    if confusion:
        parts["confusion"] = MulticlassConfusionMatrix(number)
    metrics = MetricCollection(parts, compute_groups=False)
    seen, broken = np.zeros(number, np.int64), 0
    with in_mode(model, training=False):
        for images, labels in batches:
            probabilities = model(images).float().softmax(1).cpu()
            broken += int((~probabilities.isfinite().all(1)).sum())
            metrics.update(probabilities, labels)
            seen += np.bincount(labels.numpy(), minlength=number)
    distributed.sum_over_ranks(torch.from_numpy(seen))
    broken = int(distributed.sum_over_ranks(torch.tensor(broken)))
    if broken:
        raise Diverged(
            f"the network gives {broken} of {seen.sum()} images no probabilities, but logits that "
            "are not finite; train again with a lower learning rate or with --warmup-epochs, and "
            "rather with --amp bf16 than fp16"
        )
    with warnings.catch_warnings():  # a rank may have had no batch
        warnings.filterwarnings("ignore", "The ``compute`` method of metric", UserWarning)
        values = metrics.compute()  # of all ranks
    percent = (values["per_class"].double() * 100).tolist()
    per_class = [p if n else None for p, n in zip(percent, seen, strict=True)]
    shots = [shot_of(int(n), many_above, few_below) for n in counts]
    result: dict[str, Any] = {"all": float(values["correct"].double() * 100)}
    for shot in SHOTS:
        of = (p for p, own in zip(per_class, shots, strict=True) if own == shot)
        result[shot] = mean_of_classes(of)
    f1 = (values["macro_f1"].double() * 100).tolist()
    result["macro_f1"] = mean_of_classes(f for f, n in zip(f1, seen, strict=True) if n)
    result["worst_class"] = min(p for p in per_class if p is not None)
    result["calibration_error"] = float(values["calibration_error"].double() * 100)
    result["balanced_accuracy"] = balanced_accuracy(per_class)
    result["balanced_accuracy_error"] = balanced_accuracy_error(per_class, seen)
    result["per_class"] = per_class
    if confusion:
        result["confusion"] = values["confusion"].tolist()
    return result
