"""A classifier that is made of another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ltvr.classifiers.base import Classifier
from ltvr.clock import Clock
from ltvr.data.targets import Targets

__all__ = ["Scaled"]


class Scaled(Classifier):
    """s_c z_c: the logits of any classifier, each class's times a learnt scale that starts at 1.

    Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020,
    section 4: learnable weight scaling, with the bias, where there is one, scaled as well.

    Args:
        classifier: its logits are z.
        num_classes: C.
    """

    def __init__(self, classifier: Classifier, num_classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.scale = nn.Parameter(torch.ones(num_classes))

    def reset_parameters(self) -> None:
        """Start the classifier afresh, and every scale at 1."""
        self.classifier.reset_parameters()
        nn.init.ones_(self.scale)

    def trained(self) -> list[nn.Parameter]:
        """Those of the classifier, and the scales."""
        return [*self.classifier.trained(), self.scale]

    def begin_epoch(self, clock: Clock, lr: float) -> None:
        """Tell the classifier."""
        self.classifier.begin_epoch(clock, lr)

    def statistics(self) -> list[Tensor]:
        """Those of the classifier."""
        return self.classifier.statistics()

    def observe(self, embeddings: Tensor, targets: Targets, real: int) -> None:
        """Show them to the classifier."""
        self.classifier.observe(embeddings, targets, real)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [R, E] to logits [R, C]."""
        logits: Tensor = self.scale * self.classifier(embeddings)
        return logits
