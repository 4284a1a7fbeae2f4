"""Which classes synthesis favours, and which give it their variation, by the whole data set.

Eq. 9 and 10 know the frequencies of a mini-batch alone. In a batch of 32 images of CIFAR-10-LT the
rarest class present is one of the middle more often than one of the rarest of the data set.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["confused_donors", "head_donors", "weights_of_classes"]


def weights_of_classes(counts: npt.NDArray[np.int64], exponent: float) -> Tensor:
    """Weight of a sample of each class, ``n_c^-exponent``, of the rarest 1: [C] float64.

    With exponent 1 each class is generated as often, in the mean over batches. A class without
    images has weight 0.

    Args:
        counts: [C] training images of each class.
    """
    rarest = counts[counts > 0].min(initial=counts.max())
    relative = np.where(counts > 0, counts / max(rarest, 1), np.inf)
    return torch.from_numpy(np.maximum(relative**-exponent, 1e-100) * (counts > 0))


def head_donors(counts: npt.NDArray[np.int64], share: float) -> Tensor:
    """Weights of donors that are of the largest classes: [C] float64, 1 or 0.

    Wang et al., RSG, CVPR 2021: the largest 20 or 30 % of the classes, at least one; of equal ones
    those of the lower label.

    Args:
        counts: [C] training images of each class.
        share: of the classes.
    """
    number = max(1, round(share * len(counts)))
    head = torch.zeros(len(counts), dtype=torch.float64)
    head[torch.from_numpy(np.argsort(-counts, kind="stable")[:number])] = 1.0
    return head


def confused_donors(confusions: Tensor) -> Tensor:
    """Weights of donors by how likely the network takes the one class for the other: [C, C].

    Chu et al., Feature Space Augmentation for Long-Tailed Data, ECCV 2020, take the three classes
    that a class is most confused with by its mean probabilities; here each comes as often as it is
    confused, since a batch may hold none of three. A class is no donor of its own.

    Args:
        confusions: [C, C] float64, the mean probabilities that images of each class were given.
    """
    weights = torch.where(confusions >= 1e-100, confusions, 0.0)
    return weights.fill_diagonal_(0.0)
