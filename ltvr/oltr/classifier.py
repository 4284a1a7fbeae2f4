"""The classifier of OLTR: dynamic meta-embedding and cosines."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr.classifiers.base import Classifier

__all__ = ["MetaEmbedding"]

SCALE = 16.0
"""Factor on the cosines."""
REACH = 10.0
"""Numerator of the reachability."""


class MetaEmbedding(Classifier):
    """What a memory of the classes recalls is added to the embedding, which cosines then classify.

    With v the embedding and c the centroids of the classes, the memory::

        q = softmax(H v) c,  u = tanh(S v),  rho = 10 / min_k |v - c_k|,  v' = rho (v + u q)
        z_k = 16 |v'| / (1 + |v'|) cos(v', w_k)

    Liu et al., CVPR 2019, section 3. Gradients go through the distance to the nearest centroid,
    and none to the centroids, as in the authors' code: the loss trains them
    (``ltvr.oltr.loss.CentroidLoss``). They are a parameter here, since inference reads them.

    Args:
        classifier: of the stage before, which H starts as.
    """

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        number, size = classifier.weight.shape
        self.hallucinator = copy.deepcopy(classifier)
        """H."""
        self.selector = nn.Linear(size, size)
        """S."""
        self.weight = nn.Parameter(torch.empty(number, size))
        self.centroids = nn.Parameter(torch.zeros(number, size))
        self._draw_weight()

    def _draw_weight(self) -> None:
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def reset_parameters(self) -> None:
        """Draw anew what is drawn; the centroids stay."""
        self.hallucinator.reset_parameters()
        self.selector.reset_parameters()
        self._draw_weight()

    def trained(self) -> list[nn.Parameter]:
        """All but the centroids, which the loss of another stage does not train."""
        return [p for p in self.parameters() if p is not self.centroids]

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [R, E] to logits [R, C]; lengths are taken at least in float32."""
        v = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        memory = self.centroids.detach()
        recalled = self.hallucinator(v).softmax(1) @ memory
        infused = v + self.selector(v).tanh() * recalled
        # Which is nearest is told in float64, where neither cancellation nor autocast misleads.
        v64, memory64 = v.detach().double(), memory.double()
        nearest = (memory64.square().sum(1) - 2 * v64 @ memory64.T).argmin(1)
        distance = (v - memory[nearest]).norm(dim=1, keepdim=True)
        # v' / (1 + |v'|) without 1 / distance, which is infinite at a centroid.
        length = distance / REACH + infused.norm(dim=1, keepdim=True)
        squashed = infused / length.clamp_min(torch.finfo(length.dtype).tiny)
        return SCALE * F.linear(squashed, F.normalize(self.weight))
