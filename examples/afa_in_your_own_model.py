"""AFA in a model of your own: between two of its stages, with a training loop of your own.

    python examples/afa_in_your_own_model.py

In training, ``afa.augment`` returns the real rows and after them generated ones with their labels;
in evaluation ``afa(x)`` returns the enhanced features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr import AFA


class YourModel(nn.Module):
    """Two convolutional stages with AFA between them, and a linear classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)
        )
        # The mask averages 1/2 and V starts at 2 X: real and generated rows start alike.
        self.afa = AFA(64, (8, 8), mask_mean=0.5, value_scale=2.0, attention_scale=0.1)
        self.second = nn.Sequential(
            nn.Conv2d(64, 128, 3, 2, 1), nn.BatchNorm2d(128), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.classifier = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, 32, 32] to logits [B, C]."""
        return self.head(self.afa(self.first(images)))

    def head(self, features: Tensor) -> Tensor:
        """Features to logits."""
        logits: Tensor = self.classifier(self.second(features).flatten(1))
        return logits

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """L_ori + lambda L_all with lambda = 1 (eq. 12); labels are on the CPU."""
        features, everything = self.afa.augment(
            self.first(images), labels, gamma=0.5, seed=0, step=step
        )
        logits = self.head(features)
        real = len(labels)
        return F.cross_entropy(logits[:real], everything[:real]) + F.cross_entropy(
            logits, everything
        )


def main(steps: int = 20) -> tuple[float, float]:
    """Train on random images of a long-tailed batch; return the first and the last loss."""
    torch.manual_seed(0)
    model = YourModel(classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    labels = torch.tensor([0] * 16 + [1] * 8 + [2] * 4 + [3] * 2)
    images = torch.randn(30, 3, 32, 32) + labels.view(-1, 1, 1, 1) / 2
    losses = []
    for step in range(steps):
        loss = model.loss(images, labels, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return losses[0], losses[-1]


if __name__ == "__main__":
    main()
