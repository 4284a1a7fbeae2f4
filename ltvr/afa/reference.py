"""The equations of the paper in plain PyTorch: the oracle of every faster version.

Any floating dtype, any device, autograd through every operation. The tokens are the D channels of
a feature map, the embedding of a token is its flattened map of N = H W positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ltvr.afa.arguments import MaskAxis, Projection, check_arguments, check_mask
from ltvr.afa.checks import (
    FLOATING,
    check_features,
    check_index,
    check_real_rows,
    check_tensor,
)
from ltvr.afa.plan import SynthesisPlan, check_plan

__all__ = [
    "augment",
    "channel_attention",
    "decompose",
    "decomposition_mask",
    "split_and_generate",
]


def project(x: Tensor, w: Tensor, projection: Projection = "linear") -> Tensor:
    """Q, K or V of the flattened map (Algorithm 1, lines 2-4).

    Args:
        x: [B, D, N].
        w: [N, N], applied as X W (``linear``, over positions), or [D, D], applied as W X
            (``conv1x1``, over channels).

    Returns:
        [B, D, N].
    """
    return x @ w if projection == "linear" else w @ x


def channel_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """X_att = softmax(Q K^T / sqrt(N)) V over the D keys (eq. 1). All [B, D, N]."""
    check_features("q", q, "B, D, N")
    check_tensor("k", k, q.shape, q.dtype, q.device)
    check_tensor("v", v, q.shape, q.dtype, q.device)
    scores = (q / math.sqrt(q.shape[2])) @ k.transpose(1, 2)
    return torch.softmax(scores, dim=2) @ v


def squeeze_excite(x_att: Tensor, w_1: Tensor, w_2: Tensor) -> Tensor:
    """Channel weights s = sigmoid(W_2 relu(W_1 z)) of F_se, z the mean over N (eq. 2).

    Args:
        x_att: [B, D, N].
        w_1: [D/r, D].
        w_2: [D, D/r].

    Returns:
        s [B, D, 1]; F_se(X_att) = s X_att.
    """
    z = x_att.mean(dim=2)
    return torch.sigmoid(torch.relu(z @ w_1.T) @ w_2.T).unsqueeze(2)


def mask_softmax(x_att: Tensor, s: Tensor, mask_axis: MaskAxis, mask_gain: float = 1.0) -> Tensor:
    """M = gain softmax(s X_att + X_att) (eq. 3; the paper's letter is ``mask_gain=1``).

    Args:
        x_att: [B, D, N].
        s: [B, D, 1].
        mask_axis: ``spatial`` normalises over the N positions, ``channel`` over the D channels.

    Returns:
        [B, D, N].
    """
    return mask_gain * torch.softmax((1 + s) * x_att, dim=2 if mask_axis == "spatial" else 1)


def split_and_generate(
    x: Tensor | None,
    x_att: Tensor,
    s: Tensor,
    v: Tensor,
    class_index: Tensor,
    variation_index: Tensor,
    *,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    attention_addition: bool = True,
) -> Tensor:
    """Real and generated features of a batch in one tensor (eq. 3-6 and 11).

    With M the mask of eq. 3, X_class = M V and X_var = V - X_class::

        rows 0 to B-1      X + X_class (X alone without attention addition)
        rows B to B+G-1    X_class[i_g] + X_var[j_g]

    Args:
        x: features X [B, D, N]; None for rows of X_class alone, which then have to be added.
        x_att, v: [B, D, N].
        s: [B, D, 1].
        class_index, variation_index: i and j of the plan, [G] int64.

    Returns:
        [B+G, D, N].
    """
    check_mask(mask_axis, mask_gain, attention_addition)
    check_real_rows("attention_addition", attention_addition, x is not None)
    check_features("v", v, "B, D, N")
    if x is not None:
        check_tensor("x", x, v.shape, FLOATING, v.device)
    check_tensor("x_att", x_att, v.shape, FLOATING, v.device)
    check_tensor("s", s, (*v.shape[:2], 1), FLOATING, v.device)
    check_index("class_index", class_index, v.shape[0], v.device)
    check_index("variation_index", variation_index, v.shape[0], v.device)
    check_tensor("variation_index", variation_index, class_index.shape, torch.int64, v.device)
    class_related = mask_softmax(x_att, s, mask_axis, mask_gain) * v
    real = class_related
    if x is not None:
        real = x + class_related if attention_addition else x.to(class_related.dtype)
    # index_select, not indexing: the gradient of indexing races between threads of a CPU.
    generated = class_related.index_select(0, class_index)
    generated = generated + (v - class_related).index_select(0, variation_index)
    return torch.cat([real, generated])


def _attention_and_value(
    flat: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, projection: Projection
) -> tuple[Tensor, Tensor]:
    """X_att and V of the flat map."""
    q, k, v = (project(flat, w, projection) for w in (w_q, w_k, w_v))
    return channel_attention(q, k, v), v


def decomposition_mask(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    *,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    projection: Projection = "linear",
) -> Tensor:
    """Return the mask M [B, D, H, W] of eq. 3 alone, to look at; arguments as ``decompose``."""
    check_arguments(
        x,
        (w_q, w_k, w_v, w_1, w_2),
        mask_axis=mask_axis,
        mask_gain=mask_gain,
        projection=projection,
    )
    x_att, _ = _attention_and_value(x.flatten(2), w_q, w_k, w_v, projection)
    return mask_softmax(x_att, squeeze_excite(x_att, w_1, w_2), mask_axis, mask_gain).view(x.shape)


def decompose(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    *,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    projection: Projection = "linear",
) -> tuple[Tensor, Tensor, Tensor]:
    """Class-aware feature decomposition (eq. 1-6).

    Args:
        x: features X [B, D, H, W]; N = H W.
        w_q, w_k, w_v: [N, N] applied as X W, or [D, D] applied as W X with ``conv1x1``.
        w_1, w_2: [D/r, D] and [D, D/r], the squeeze-and-excitation bottleneck.
        mask_axis: axis of the mask's softmax, ``spatial`` (over N) or ``channel`` (over D).
        mask_gain: factor on the mask; 1 is eq. 3.
        projection: ``linear`` or ``conv1x1``.

    Returns:
        ``enhanced`` X + X_class, ``class_related`` X_class = M V and ``variation_related``
        X_var = V - X_class, each [B, D, H, W] in the dtype the equations give.

    Raises:
        TypeError, ValueError: see ``ltvr.afa.arguments.check_arguments``.
    """
    check_arguments(
        x,
        (w_q, w_k, w_v, w_1, w_2),
        mask_axis=mask_axis,
        mask_gain=mask_gain,
        projection=projection,
    )
    x_att, v = _attention_and_value(x.flatten(2), w_q, w_k, w_v, projection)
    mask = mask_softmax(x_att, squeeze_excite(x_att, w_1, w_2), mask_axis, mask_gain)
    class_related = (mask * v).view(x.shape)
    variation_related = v.view(x.shape) - class_related
    return x + class_related, class_related, variation_related


def augment(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    plan: SynthesisPlan,
    *,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    attention_addition: bool = True,
    projection: Projection = "linear",
) -> Tensor:
    """Decomposition and feature generation: the rows that the rest trains on (eq. 1-6 and 11).

    ``X_gen[g] = X_class[i_g] + X_var[j_g]`` with i and j from the plan.

    Args:
        x: [B, D, H, W]; the weights as in ``decompose``.
        plan: of the labels of these B samples, on the device of ``x``.
        attention_addition: False feeds X instead of X + X_class (the paper's Table VII).

    Returns:
        [B+G, D, H, W], the (enhanced) real samples first, then the generated ones.

    Raises:
        TypeError, ValueError: see ``ltvr.afa.arguments.check_arguments``.
    """
    check_plan(plan)
    check_arguments(
        x,
        (w_q, w_k, w_v, w_1, w_2),
        plan,
        mask_axis=mask_axis,
        mask_gain=mask_gain,
        projection=projection,
        attention_addition=attention_addition,
    )
    flat = x.flatten(2)
    x_att, v = _attention_and_value(flat, w_q, w_k, w_v, projection)
    features = split_and_generate(
        flat,
        x_att,
        squeeze_excite(x_att, w_1, w_2),
        v,
        plan.class_index,
        plan.variation_index,
        mask_axis=mask_axis,
        mask_gain=mask_gain,
        attention_addition=attention_addition,
    )
    return features.view(-1, *x.shape[1:])
