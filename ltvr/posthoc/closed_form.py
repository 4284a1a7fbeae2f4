"""Heads that no gradient makes: embeddings, or a classifier's weights and logits, to logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr.losses.logit_adjustment import LEAST

__all__ = ["Form", "adjusted", "nearest_mean", "tau_normalised"]

Form = Literal["un", "l2n", "cl2n"]
"""What a mean is taken of: embeddings, those of length 1, those centred and then of length 1."""

SHORTEST = 1e-12
"""Length that weights of a class are taken to have at least: squared, it is above 0 in float32."""


def nearest_mean(
    embeddings: Tensor, train: Tensor, labels: Tensor, classes: int, form: Form
) -> Tensor:
    """Nearest class mean (NCM): ``z_c = -|f(x) - m_c|^2``, m_c the mean of f over class c: [R, C].

    ``un``: ``f(x) = x``; ``l2n``: ``x / |x|``; ``cl2n``: ``(x - x0) / |x - x0|``, x0 the mean of
    all of ``train``. The means are not brought to length 1 again. Kang et al., Decoupling
    Representation and Classifier, ICLR 2020, section 4.1, with the three forms of the authors'
    code, where cl2n is the default.

    Args:
        embeddings: [R, E].
        train: [n, E], of the training images as inference sees them.
        labels: [n] on the host; every class has one.
        classes: C.
    """
    if form == "cl2n":
        centre = train.mean(0)
        embeddings, train = embeddings - centre, train - centre
    if form != "un":
        embeddings, train = F.normalize(embeddings), F.normalize(train)
    labels = labels.to(train.device)
    means = torch.stack([train[labels == k].mean(0) for k in range(classes)])
    return -torch.cdist(embeddings, means).square()


def tau_normalised(
    embeddings: Tensor, weight: Tensor, tau: float, bias: Tensor | None = None
) -> Tensor:
    """tau-norm: ``z_c = <x, w_c> / |w_c|^tau``, plus b_c where a bias is given: [R, C].

    Kang et al., ICLR 2020, eq. 6, without the bias, which their code drops; BagofTricks-LT keeps
    it, at tau = 1.

    Args:
        embeddings: [R, E].
        weight, bias: [C, E] and [C] of the linear classifier.
        tau: 0 leaves the weights as they are.
    """
    lengths = weight.norm(dim=1, keepdim=True).clamp_min(SHORTEST)
    return F.linear(embeddings, weight / lengths**tau, bias)


def adjusted(logits: Tensor, shares: Tensor, tau: float) -> Tensor:
    """Logit adjustment post hoc: z_c - log(q_c^tau + 1e-12): [R, C].

    Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 9, with the constant of
    the authors' code.

    Args:
        logits: [R, C].
        shares: [C], q, the class frequencies that the logits are under.
        tau: 0 leaves the logits as they are.
    """
    return logits - (shares**tau + LEAST).log().to(logits.dtype)
