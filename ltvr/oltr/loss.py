"""The loss of OLTR: any loss, and centroids that draw their own class and repel the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr.clock import Clock
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.losses.base import Loss, Outputs
from ltvr.oltr.classifier import MetaEmbedding

__all__ = ["CentroidLoss"]


class CentroidLoss(Loss):
    """A loss, plus ``weight`` times that of the centroids c of a classifier, which it trains::

        1/2 |v_i - c_y|^2 + repel_weight max(0, margin - 1/(B C) sum_j sum_{k != y_j} |v_j - c_k|^2)

    for the embedding v_i of row i of B. The second term is one number of the micro-batch, and every
    row has it. Liu et al., CVPR 2019, section 3.

    The gradient of c_k from the first term is ``sum_{i: y_i = k} (c_k - v_i) / (1 + n_k) / B`` with
    n_k the rows of class k in the step, whatever ``weight`` is: they follow their classes as in the
    centre loss (Wen et al., ECCV 2016, eq. 4), as in the authors' code.

    Args:
        loss: of the logits.
        counts: [C] training images of each class.
        classifier: has the centroids; its parameters are not those of this module.
        weight: above 0.
        repel_weight, margin: of the second term.
    """

    def __init__(
        self,
        loss: Loss,
        counts: Tensor,
        classifier: MetaEmbedding,
        *,
        weight: float,
        repel_weight: float,
        margin: float,
    ) -> None:
        super().__init__(NoOptions(), counts)
        self.loss = loss
        self.weight, self.repel_weight, self.margin = weight, repel_weight, margin
        self._owner = (classifier,)  # in a tuple, which torch does not look into
        self.rows_of: Tensor
        self.register_buffer("rows_of", torch.zeros(len(counts)), persistent=False)

    def begin_step(self, targets: Targets, real: int) -> None:
        """Count the real rows of each class."""
        self.loss.begin_step(targets, real)
        self.rows_of.copy_(F.one_hot(targets.labels[:real], len(self.rows_of)).sum(0))

    def rows(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Those of the loss, and of the centroids: [R]."""
        v, centroids = outputs.embeddings, self._owner[0].centroids
        share = 1 / (self.weight * (1 + self.rows_of.to(centroids)))
        fixed = centroids.detach()
        followed = fixed + share[:, None] * (centroids - fixed)  # c, with a gradient of its own
        attract = (v - F.embedding(labels, followed)).square().sum(1) / 2
        squares = v.square().sum(1)[:, None] + centroids.square().sum(1) - 2 * v @ centroids.T
        others = torch.scatter(squares, 1, labels[:, None], 0.0)
        repel = (self.margin - others.mean()).clamp_min(0)
        ours = attract + self.repel_weight * repel
        return self.loss.rows(outputs, labels) + self.weight * ours

    def weights(self, labels: Tensor) -> Tensor:
        """Those of the loss: [R]."""
        return self.loss.weights(labels)

    def offsets(self, classes: Tensor) -> Tensor:
        """Those of the loss."""
        return self.loss.offsets(classes)

    def begin_epoch(self, clock: Clock) -> None:
        """Tell the loss."""
        self.loss.begin_epoch(clock)
