"""Decomposition and augmentation on a GPU, with K = V = X (the absorbed form), and its backward.

The equations are in ``ltvr.afa.reference.augment``, how they are regrouped in ``ltvr/afa/fused.py``
and the schemas in ``ltvr/afa/ops.py``. X_att = out W_V and V = X W_V are not written to memory
where the kernels that need them can make them (``_parts``). Features, and the gradient of X, lie in
memory as X does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ltvr.kernels.channel_attention import channel_attention
from ltvr.kernels.channel_attention_backward import channel_attention_backward
from ltvr.kernels.launch import check_dtype
from ltvr.kernels.parts import Parts
from ltvr.kernels.projections import absorb, project
from ltvr.kernels.projections_backward import attended_backward, projections_backward
from ltvr.kernels.rows import fits
from ltvr.kernels.split_and_generate import generate
from ltvr.kernels.split_and_generate_backward import Inverse, generate_backward
from ltvr.kernels.squeeze_excite import squeeze_excite, squeeze_excite_backward
from ltvr.layout import channels_last, dense

__all__ = ["augment", "augment_backward"]


def augment(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    class_index: Tensor,
    variation_index: Tensor,
    spatial: bool,
    gain: float,
    residual: bool,
    addition: bool,
) -> tuple[Tensor, ...]:
    """Features [B+G, D, N], and what the backward takes, in rows of ``ltvr.layout.width``."""
    check_dtype(x)
    given, last = x, channels_last(x)
    absorbed = absorb(x, w_q, w_k, w_v)
    q, x = project(dense(x), absorbed.a)  # from here on, rows are as wide as A
    out, lse = channel_attention(q, x, None)
    s, hidden, z = squeeze_excite(out, absorbed.mean, w_1, w_2)
    parts = _parts(given.shape[2], x, out, s, absorbed.w, spatial, gain)
    features = generate(
        x if residual else None, parts, class_index, variation_index, addition, last
    )
    copy = x.new_empty(0) if x is given else x
    return features, copy, q, out, lse, s, hidden, z, absorbed.a, absorbed.w


def augment_backward(
    d_features: Tensor,
    x: Tensor,
    q: Tensor,
    out: Tensor,
    lse: Tensor,
    s: Tensor,
    hidden: Tensor,
    z: Tensor,
    a: Tensor,
    w: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    class_offsets: Tensor,
    class_rows: Tensor,
    variation_offsets: Tensor,
    variation_rows: Tensor,
    spatial: bool,
    gain: float,
    residual: bool,
    addition: bool,
    x_last: bool,
) -> tuple[Tensor, ...]:
    """Gradients of x, and in float32 of w_q, w_k, w_v, w_1 and w_2."""
    check_dtype(x)
    x, q, out, lse, s, hidden, z, a, w = (
        t.contiguous() for t in (x, q, out, lse, s, hidden, z, a, w)
    )
    d_features = dense(d_features)
    batch, positions = x.shape[0], w_q.shape[0]
    parts = _parts(positions, x, out, s, w, spatial, gain)
    inverse = Inverse(class_offsets, class_rows, variation_offsets, variation_rows)
    d_x_att, d_logit, d_v = generate_backward(d_features, parts, inverse, addition, of_logit=True)
    d_z, d_w_1, d_w_2 = squeeze_excite_backward(d_logit, hidden, z, w_1, w_2)
    d_out, sums = attended_backward(d_x_att, d_z, out, w, positions)
    d_q, d_k, _ = channel_attention_backward(d_out, q, x, None, out, lse)
    del d_out
    d_real = d_features[:batch] if residual else None
    d_x, d_a, d_w_v = projections_backward(
        x, d_q, d_k, d_v, d_real, a, w, out, d_x_att, sums, x_last, positions
    )
    scale = 1 / math.sqrt(positions)
    d_w_q, d_w_k = (
        torch.addmm(d, d, other.to(d.dtype), beta=0, alpha=scale)
        for d, other in ((d_a, w_k), (d_a.T, w_q))
    )
    return d_x, d_w_q, d_w_k, d_w_v, d_w_1, d_w_2


def _parts(
    positions: int, x: Tensor, out: Tensor, s: Tensor, w: Tensor, spatial: bool, gain: float
) -> Parts:
    """X_att = out W_V and V = X W_V: made by the kernels, or here where they cannot."""
    if spatial and fits(x):
        return Parts(positions, out, s, x, w, spatial, gain)
    return Parts(positions, out @ w, s, x @ w, None, spatial, gain)
