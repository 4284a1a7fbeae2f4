"""Fused decomposition and augmentation: the equations of ``ltvr.afa.reference``, regrouped.

With A = W_Q W_K^T / sqrt(N) the scores are (X A) X^T: X itself is the keys. The D x D attention
never reaches memory.

On a GPU, X_att = (softmax(scores) X) W_V: X is the values as well, and two maps a token remain
instead of three. This absorbed form is one operator with its backward, ``augment``. Kept for the
backward: X, X A, the output of the attention, and row statistics; X_att and V are small products,
made again.

The C++ kernels take V = X W_V on its own: a CPU gains nothing from loading one operand instead of
two, and W_V ahead of the attention saves four small products. So do the Triton kernels where the
projections are over channels (``conv1x1``), which cannot be absorbed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ltvr.afa.arguments import MaskAxis, Projection, check_arguments
from ltvr.afa.operands import statistics_dtype
from ltvr.afa.ops import Kernels
from ltvr.afa.plan import SynthesisPlan, check_plan
from ltvr.afa.reference import project
from ltvr.layout import channels_last

__all__ = ["augment", "decompose", "enhance"]


def _slow_on_cpu() -> frozenset[torch.dtype]:
    """Dtypes without a fast matrix product on this CPU."""
    slow = {torch.bfloat16, torch.float16}
    if torch.backends.mkldnn.is_available():
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            slow.remove(torch.bfloat16)
        if torch.ops.mkldnn._is_mkldnn_fp16_supported():
            slow.remove(torch.float16)
    return frozenset(slow)


_SLOW_ON_CPU = _slow_on_cpu()


class _Options(NamedTuple):
    operators: Any
    """Of ``ltvr.afa.ops.Kernels``."""
    linear: bool
    spatial: bool
    gain: float
    residual: bool
    """Whether the real rows contain X."""
    addition: bool
    """Whether the real rows contain X_class."""


class _Augment(Function):
    """Eq. 1-6 and 11 on flat features, V on its own; the backward is written out: no atomics."""

    @staticmethod
    def forward(
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
        operators = options.operators
        q, k, v = _operands(x, w_q, w_k, w_v, options)
        out, lse = operators.channel_attention(q, k, v)
        s, hidden, z = _squeeze_excite(out, w_1, w_2)
        features: Tensor = operators.split_and_generate(
            x if options.residual else None,
            out,
            s,
            v,
            class_index,
            variation_index,
            options.spatial,
            options.gain,
            options.addition,
        )
        # conv1x1: Q and K are products of x and [D, D] weights, made again in the backward.
        kept = q if options.linear else None
        inverse = (class_offsets, class_rows, variation_offsets, variation_rows)
        ctx.save_for_backward(x, kept, out, lse, s, hidden, z, w_q, w_k, w_v, w_1, w_2, *inverse)
        ctx.options = options
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_features: Tensor) -> Any:
        with torch.autocast(d_features.device.type, enabled=False):
            return _Augment._gradients(ctx, d_features)

    @staticmethod
    def _gradients(ctx: Any, d_features: Tensor) -> Any:
        options: _Options = ctx.options
        operators = options.operators
        x, q, out, lse, s, hidden, z, w_q, w_k, w_v, w_1, w_2, *inverse = ctx.saved_tensors
        batch, _, positions = x.shape
        d_features = d_features.contiguous()
        q, k, v = _operands(x, w_q, w_k, w_v, options, q)
        d_out, d_s, d_value = operators.split_and_generate_backward(
            d_features,
            out,
            s,
            v,
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
        d_out += d_z.to(x.dtype).unsqueeze(2)
        d_q, d_k, d_v = operators.channel_attention_backward(d_out, q, k, v, out, lse)
        d_v.add_(d_value)
        del v, d_value  # the products of d_x are where the most is held
        scale = 1 / math.sqrt(positions)
        if options.linear:
            d_w_v = _weight_gradient(x, d_v)
            d_a = _weight_gradient(x, d_q) * scale
            d_w_q, d_w_k = d_a @ w_k.to(d_a.dtype), d_a.T @ w_q.to(d_a.dtype)
            d_x = d_k.add_(_product(d_q, _absorbed(w_q, w_k, scale).T))
            d_x += _product(d_v, w_v.T)
        else:
            d_q = d_q * scale
            by_channel = x.transpose(0, 1).flatten(1)
            d_w_q, d_w_k, d_w_v = (
                _product(d.transpose(0, 1).flatten(1), by_channel.T) for d in (d_q, d_k, d_v)
            )
            d_x = sum(_product(w.T, d) for w, d in ((w_q, d_q), (w_k, d_k), (w_v, d_v)))
        if options.residual:
            d_x += d_features[:batch]
        weights = zip((d_w_q, d_w_k, d_w_v, d_w_1, d_w_2), (w_q, w_k, w_v, w_1, w_2), strict=True)
        return d_x, *(d.to(w.dtype) for d, w in weights), *(7 * (None,))


class _Absorbed(Function):
    """Eq. 1-6 and 11 on flat features, X as keys and values: one operator, and its backward."""

    @staticmethod
    def forward(
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
        flags = (options.spatial, options.gain, options.residual, options.addition)
        weights = (w_q, w_k, w_v, w_1, w_2)
        features: Tensor
        features, copy, *made = options.operators.augment(
            x, *weights, class_index, variation_index, *flags
        )
        inverse = (class_offsets, class_rows, variation_offsets, variation_rows)
        kept = copy if copy.dim() == 3 else x  # an empty vector where X serves as it is
        ctx.save_for_backward(kept, *made, w_q, w_k, w_1, w_2, *inverse)
        ctx.operator = options.operators.augment_backward
        ctx.flags = (*flags, channels_last(x))
        ctx.dtypes = tuple(w.dtype for w in weights)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_features: Tensor) -> Any:
        with torch.autocast(d_features.device.type, enabled=False):
            d_x, *d_weights = ctx.operator(d_features, *ctx.saved_tensors, *ctx.flags)
        casts = (d.to(dtype) for d, dtype in zip(d_weights, ctx.dtypes, strict=True))
        return d_x, *casts, *(7 * (None,))


def _operands(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    options: _Options,
    q: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V of the attention, the scale in Q; with linear projections K is X."""
    scale = 1 / math.sqrt(x.shape[2])
    if not options.linear:
        return _product(w_q * scale, x), _product(w_k, x), _product(w_v, x)
    if q is None:
        q = _product(x, _absorbed(w_q, w_k, scale))
    return q, x, _product(x, w_v)


def _absorbed(w_q: Tensor, w_k: Tensor, scale: float) -> Tensor:
    """A = W_Q W_K^T / sqrt(N) in the precision of the weights."""
    return (w_q @ w_k.T) * scale


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A B, one of them features and the other, where it is a weight, cast to their dtype.

    By way of float32 on a CPU that has no matrix unit for the dtype, where PyTorch's own product
    is up to twenty times slower.
    """
    dtype = a.dtype if a.dim() == 3 else b.dtype
    if a.device.type == "cpu" and dtype in _SLOW_ON_CPU:
        return (a.float() @ b.float()).to(dtype)
    return a.to(dtype) @ b.to(dtype)


def _squeeze_excite(x_att: Tensor, w_1: Tensor, w_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s, relu(W_1 z) and z of eq. 2, at least in float32: [B, D], [B, D/r], [B, D]."""
    wide = statistics_dtype(x_att)
    z = x_att.mean(dim=2, dtype=wide)
    hidden = torch.relu(z @ w_1.to(wide).T)
    return torch.sigmoid(hidden @ w_2.to(wide).T), hidden, z


def _weight_gradient(x: Tensor, d_y: Tensor) -> Tensor:
    """Gradient of W in Y = X W over all tokens: [N, N]."""
    return _product(x.flatten(0, 1).T, d_y.flatten(0, 1))


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
    """Check, flatten, cast as autocast asks, apply; returns [B+G, D, H, W]."""
    check_arguments(
        x,
        weights,
        plan,
        mask_axis=mask_axis,
        mask_gain=mask_gain,
        projection=projection,
        attention_addition=addition,
    )
    # As PyTorch's own operators do, it leaves float64 as it is.
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
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
    linear = projection == "linear"
    options = _Options(
        operators=kernels.operators,
        linear=linear,
        spatial=mask_axis == "spatial",
        gain=float(mask_gain),
        residual=residual,
        addition=addition,
    )
    with torch.autocast(x.device.type, enabled=False):
        flat: Tensor
        if linear and kernels.absorbs:
            flat = _Absorbed.apply(x.flatten(2), *weights, *index, options)
        else:
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
    """X + X_class alone (eq. 6); arguments as ``ltvr.afa.reference.decompose``."""
    return _run(kernels, x, weights, None, mask_axis, mask_gain, projection)


def decompose(
    kernels: Kernels,
    x: Tensor,
    *weights: Tensor,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    projection: Projection = "linear",
) -> tuple[Tensor, Tensor, Tensor]:
    """``ltvr.afa.reference.decompose`` with the kernels of a backend."""
    class_related = _run(
        kernels, x, weights, None, mask_axis, mask_gain, projection, residual=False
    )
    value = project(x.flatten(2), weights[2], projection).view(x.shape)
    return x + class_related, class_related, value - class_related


def augment(
    kernels: Kernels,
    x: Tensor,
    *weights: Tensor,
    plan: SynthesisPlan,
    mask_axis: MaskAxis,
    mask_gain: float = 1.0,
    attention_addition: bool = True,
    projection: Projection = "linear",
) -> Tensor:
    """``ltvr.afa.reference.augment`` with the kernels of a backend."""
    check_plan(plan)
    return _run(
        kernels,
        x,
        weights,
        plan,
        mask_axis,
        mask_gain,
        projection,
        addition=attention_addition,
    )
