"""Fused decomposition and augmentation: the equations of ``ltvr.reference``, regrouped.

With A = W_Q W_K^T / sqrt(N) the scores are (X A) X^T, and X_att = (softmax(scores) X) W_V: X is both
keys and values, and two maps a token remain instead of three. The D x D attention never reaches
memory. Kept for the backward: X, X A, the output of the attention, and row statistics; X_att and V
are small products, made again.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from ltvr.planning import SynthesisPlan
from ltvr.reference import MaskAxis, Projection, project

__all__ = ["Kernels", "augment", "decompose", "enhance"]


class Kernels(Protocol):
    """The operators that a fused backend provides; documented in ``ltvr.ops``."""

    channel_attention: Any
    channel_attention_backward: Any
    split_and_generate: Any
    split_and_generate_backward: Any


class _Options(NamedTuple):
    kernels: Kernels
    linear: bool
    spatial: bool
    gain: float
    residual: bool
    """Whether the real rows contain X."""
    addition: bool
    """Whether the real rows contain X_class."""


class _Augment(Function):
    """Eq. 1-6 and 11 on flat features; the backward is written out (guide: no float atomics)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        w_q: Tensor,
        w_k: Tensor,
        w_v: Tensor,
        w_1: Tensor,
        w_2: Tensor,
        class_index: Tensor,
        variation_index: Tensor,
        class_offsets: Tensor,
        class_rows: Tensor,
        variation_offsets: Tensor,
        variation_rows: Tensor,
        options: _Options,
    ) -> Tensor:
        kernels = options.kernels
        q, k, v = _operands(x, w_q, w_k, w_v, options)
        out, lse = kernels.channel_attention(q, k, v)
        x_att = _to_x_att(out, w_v, options)
        s, hidden, z = _squeeze_excite(x_att, w_1, w_2)
        features = kernels.split_and_generate(
            x if options.residual else None,
            x_att,
            s,
            _to_value(x, v, w_v),
            class_index,
            variation_index,
            options.spatial,
            options.gain,
            options.addition,
        )
        # conv1x1: K and V are products of x and [D, D] weights, made again in the backward.
        kept = q if options.linear else None
        inverse = (class_offsets, class_rows, variation_offsets, variation_rows)
        ctx.save_for_backward(x, kept, out, lse, s, hidden, z, w_q, w_k, w_v, w_1, w_2, *inverse)
        ctx.options = options
        return features

    @staticmethod
    def backward(ctx: Any, d_features: Tensor) -> Any:  # type: ignore[override]
        options: _Options = ctx.options
        kernels = options.kernels
        x, q, out, lse, s, hidden, z, w_q, w_k, w_v, w_1, w_2, *inverse = ctx.saved_tensors
        batch, _, positions = x.shape
        d_features = d_features.contiguous()
        k, v = x, None
        if not options.linear:
            q, k, v = _operands(x, w_q, w_k, w_v, options)
        x_att = _to_x_att(out, w_v, options)
        d_x_att, d_s, d_value = kernels.split_and_generate_backward(
            d_features,
            x_att,
            s,
            _to_value(x, v, w_v),
            *inverse,
            options.spatial,
            options.gain,
            options.addition,
        )
        # Squeeze and excitation: s = sigmoid(W_2 relu(W_1 z)), z the mean of X_att over N.
        d_gate = d_s * s * (1 - s)
        d_hidden = (d_gate @ w_2.to(s.dtype)) * (hidden > 0)
        d_w_2 = d_gate.T @ hidden
        d_w_1 = d_hidden.T @ z
        d_z = d_hidden @ w_1.to(s.dtype) / positions
        d_x_att += d_z.to(x.dtype).unsqueeze(2)
        d_out = d_x_att @ w_v.to(x.dtype).T if options.linear else d_x_att
        d_q, d_k, d_v = kernels.channel_attention_backward(d_out, q, k, v, out, lse)
        scale = 1 / math.sqrt(positions)
        if options.linear:
            d_w_v = _weight_gradient(out, d_x_att) + _weight_gradient(x, d_value)
            d_a = _weight_gradient(x, d_q) * scale
            d_w_q, d_w_k = d_a @ w_k.to(d_a.dtype), d_a.T @ w_q.to(d_a.dtype)
            # Keys and values are one operand: d_k holds the gradient of both.
            d_x = d_k + d_q @ _absorbed(w_q, w_k, scale, x.dtype).T
            d_x += d_value @ w_v.to(x.dtype).T
        else:
            d_v = d_v + d_value
            d_q = d_q * scale
            d_w_q, d_w_k, d_w_v = (torch.einsum("bdn,ben->de", d, x) for d in (d_q, d_k, d_v))
            d_x = sum(w.to(x.dtype).T @ d for w, d in ((w_q, d_q), (w_k, d_k), (w_v, d_v)))
        if options.residual:
            d_x += d_features[:batch]
        weights = zip((d_w_q, d_w_k, d_w_v, d_w_1, d_w_2), (w_q, w_k, w_v, w_1, w_2), strict=True)
        return d_x, *(d.to(w.dtype) for d, w in weights), *(7 * (None,))


def _operands(
    x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, options: _Options
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Q, K, V of the attention, the scale in Q; absorbed, K is X and so is V (None)."""
    scale = 1 / math.sqrt(x.shape[2])
    if options.linear:
        return x @ _absorbed(w_q, w_k, scale, x.dtype), x, None
    return (w_q * scale).to(x.dtype) @ x, w_k.to(x.dtype) @ x, w_v.to(x.dtype) @ x


def _absorbed(w_q: Tensor, w_k: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """A = W_Q W_K^T / sqrt(N) in the precision of the weights, then in ``dtype``."""
    return ((w_q @ w_k.T) * scale).to(dtype)


def _to_x_att(out: Tensor, w_v: Tensor, options: _Options) -> Tensor:
    """X_att from the output of the attention: (softmax X) W_V in the absorbed form."""
    return out @ w_v.to(out.dtype) if options.linear else out


def _to_value(x: Tensor, v: Tensor | None, w_v: Tensor) -> Tensor:
    """V of eq. 4 and 5."""
    return x @ w_v.to(x.dtype) if v is None else v


def _squeeze_excite(x_att: Tensor, w_1: Tensor, w_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s, relu(W_1 z) and z of eq. 2, at least in float32: [B, D], [B, D/r], [B, D]."""
    wide = torch.promote_types(x_att.dtype, torch.float32)
    z = x_att.mean(dim=2, dtype=wide)
    hidden = torch.relu(z @ w_1.to(wide).T)
    return torch.sigmoid(hidden @ w_2.to(wide).T), hidden, z


def _weight_gradient(x: Tensor, d_y: Tensor) -> Tensor:
    """Gradient of W in Y = X W over all tokens: [N, N]."""
    return x.flatten(0, 1).T @ d_y.flatten(0, 1)


def _run(
    kernels: Kernels,
    x: Tensor,
    weights: tuple[Tensor, ...],
    plan: SynthesisPlan | None,
    mask_axis: MaskAxis,
    mask_gain: float,
    projection: Projection,
    *,
    residual: bool = True,
    addition: bool = True,
) -> Tensor:
    """Flatten, cast as autocast asks, apply; returns [B+G, D, H, W]."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    if plan is None:
        empty = torch.empty(0, dtype=torch.int64, device=x.device)
        offsets = torch.zeros(x.shape[0] + 1, dtype=torch.int64, device=x.device)
        index = (empty, empty, offsets, empty, offsets, empty)
    else:
        index = (
            plan.class_index,
            plan.variation_index,
            plan.class_offsets,
            plan.class_rows,
            plan.variation_offsets,
            plan.variation_rows,
        )
    options = _Options(
        kernels, projection == "linear", mask_axis == "spatial", mask_gain, residual, addition
    )
    with torch.autocast(x.device.type, enabled=False):
        flat = _Augment.apply(x.flatten(2).contiguous(), *weights, *index, options)
    return flat.view(-1, *x.shape[1:])


def enhance(
    kernels: Kernels,
    x: Tensor,
    *weights: Tensor,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    projection: Projection = "linear",
) -> Tensor:
    """X + X_class alone (eq. 6); arguments as ``ltvr.reference.decompose``."""
    return _run(kernels, x, weights, None, mask_axis, mask_gain, projection)


def decompose(
    kernels: Kernels,
    x: Tensor,
    *weights: Tensor,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    projection: Projection = "linear",
) -> tuple[Tensor, Tensor, Tensor]:
    """``ltvr.reference.decompose`` with the kernels of a backend."""
    class_related = _run(
        kernels, x, weights, None, mask_axis, mask_gain, projection, residual=False
    )
    value = project(x.flatten(2), weights[2], projection).view(x.shape)
    return x + class_related, class_related, value - class_related


def augment(
    kernels: Kernels,
    x: Tensor,
    labels: Tensor,
    *weights: Tensor,
    plan: SynthesisPlan,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    attention_addition: bool = True,
    projection: Projection = "linear",
) -> tuple[Tensor, Tensor]:
    """``ltvr.reference.augment`` with the kernels of a backend."""
    features = _run(
        kernels,
        x,
        weights,
        plan,
        mask_axis,
        mask_gain,
        projection,
        addition=attention_addition,
    )
    return features, torch.cat([labels, plan.labels])
