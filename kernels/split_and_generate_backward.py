"""The backward of the split and the generation (``split_and_generate.py``).

It makes masks again, gathers through the plan's inverse index (``gather.py``), and has the grid of
the forward. With the mask over channels, a small kernel first sums over each column.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import load_block, store_block
from ltvr.kernels.gather import class_segments, gather
from ltvr.kernels.launch import Launch, check_dtype, divide_up, kept
from ltvr.kernels.parts import Parts, load_s, part, softmax, whole_columns, whole_rows
from ltvr.layout import channels_last, dense

__all__ = ["Inverse", "generate_backward", "split_and_generate_backward"]


@triton.jit
def _gather_both(
    d_features_ptr, segments_ptr, class_offsets_ptr, class_rows_ptr, variation_offsets_ptr,
    variation_rows_ptr, batch, sample, rows, cols, ADDITION: tl.constexpr,
    FEATURES_LAST: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """d_X_class and d_X_var [rows, cols] of a sample."""
    d_class = gather(
        d_features_ptr, segments_ptr, class_offsets_ptr, class_rows_ptr, batch, sample,
        rows, cols, ADD_REAL_ROW=ADDITION, FEATURES_LAST=FEATURES_LAST, D=D, N=N,
    )  # fmt: skip
    d_variation = gather(
        d_features_ptr, None, variation_offsets_ptr, variation_rows_ptr, batch, sample,
        rows, cols, ADD_REAL_ROW=False, FEATURES_LAST=FEATURES_LAST, D=D, N=N,
    )  # fmt: skip
    return d_class, d_variation


@triton.jit
def _column_mean_kernel(
    d_features_ptr,
    segments_ptr,
    x_att_ptr,
    s_ptr,
    v_ptr,
    lse_ptr,
    mean_ptr,
    class_offsets_ptr,
    class_rows_ptr,
    variation_offsets_ptr,
    variation_rows_ptr,
    gain,
    batch,
    ADDITION: tl.constexpr,
    FEATURES_LAST: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Sum of M d_M over the channels: the softmax's gradient is M (d_M - this sum)."""
    sample = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mean = tl.zeros([BLOCK_N], tl.float32)
    for start in tl.range(0, D, BLOCK_D):
        rows = start + tl.arange(0, BLOCK_D)
        # [BLOCK_D, BLOCK_N]
        d_class, d_variation = _gather_both(
            d_features_ptr, segments_ptr, class_offsets_ptr, class_rows_ptr, variation_offsets_ptr,
            variation_rows_ptr, batch, sample, rows, cols, ADDITION, FEATURES_LAST, D, N,
        )  # fmt: skip
        v = load_block(v_ptr + sample * D * WIDTH, rows, cols, D, WIDTH).to(tl.float32)
        d_mask = gain * v * (d_class - d_variation)
        x_att = load_block(x_att_ptr + sample * D * WIDTH, rows, cols, D, WIDTH).to(tl.float32)
        scaled = (1 + load_s(s_ptr, sample, rows, D)) * x_att
        mask = softmax(scaled, lse_ptr, sample, cols, N)
        if D % BLOCK_D != 0:  # mask may overflow outside the sample: 0 * inf is NaN
            mask = tl.where(rows[:, None] < D, mask, 0.0)
        mean += tl.sum(mask * d_mask, 0)
    tl.store(mean_ptr + sample * N + cols, mean, mask=cols < N)


@triton.jit
def _backward_kernel(
    d_features_ptr,
    segments_ptr,
    x_att_ptr,
    s_ptr,
    v_ptr,
    w_ptr,
    lse_ptr,
    mean_ptr,
    class_offsets_ptr,
    class_rows_ptr,
    variation_offsets_ptr,
    variation_rows_ptr,
    d_x_att_ptr,
    d_s_ptr,
    d_v_ptr,
    gain,
    batch,
    ADDITION: tl.constexpr,
    OF_LOGIT: tl.constexpr,
    FEATURES_LAST: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """d_X_att, d_V, and the gradient of s; if OF_LOGIT, of what s is the sigmoid of."""
    sample = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    base = sample * D * WIDTH
    # [BLOCK_D, BLOCK_N]
    d_class, d_variation = _gather_both(
        d_features_ptr, segments_ptr, class_offsets_ptr, class_rows_ptr, variation_offsets_ptr,
        variation_rows_ptr, batch, sample, rows, cols, ADDITION, FEATURES_LAST, D, N,
    )  # fmt: skip
    w = cols if w_ptr is None else load_block(w_ptr, cols, cols, N, N)  # W_V, if there is one
    v = part(load_block(v_ptr + base, rows, cols, D, WIDTH), w_ptr, w, PRECISION)
    difference = d_class - d_variation
    d_mask = gain * v * difference
    x_att = part(load_block(x_att_ptr + base, rows, cols, D, WIDTH), w_ptr, w, PRECISION)
    s = load_s(s_ptr, sample, rows, D)
    mask = softmax((1 + s) * x_att, lse_ptr, sample, cols, N)
    if mean_ptr is None:
        mean = tl.sum(mask * d_mask, 1)[:, None]
    else:
        mean = tl.load(mean_ptr + sample * N + cols, mask=cols < N, other=0.0)[None, :]
    d_scaled = mask * (d_mask - mean)
    store_block(d_x_att_ptr + base, rows, cols, (1 + s) * d_scaled, D, WIDTH)
    d_s = tl.sum(x_att * d_scaled, 1)[:, None]
    if OF_LOGIT:
        d_s *= s * (1 - s)
    tl.store(d_s_ptr + sample * D + rows[:, None], d_s, mask=rows[:, None] < D)
    store_block(d_v_ptr + base, rows, cols, d_variation + gain * mask * difference, D, WIDTH)


class Inverse(NamedTuple):
    """The inverse indices of a plan, by which the backward gathers."""

    class_offsets: Tensor
    class_rows: Tensor
    variation_offsets: Tensor
    variation_rows: Tensor


@kept
def _column_mean(v: Tensor, positions: int, addition: bool, features_last: bool) -> Launch:
    return Launch(
        _column_mean_kernel,
        batch=v.shape[0],
        ADDITION=addition,
        FEATURES_LAST=features_last,
        **whole_columns(v, positions),
    )


@kept
def _backward(
    v: Tensor,
    positions: int,
    multiplied: bool,
    addition: bool,
    of_logit: bool,
    features_last: bool,
) -> Launch:
    return Launch(
        _backward_kernel,
        batch=v.shape[0],
        ADDITION=addition,
        OF_LOGIT=of_logit,
        FEATURES_LAST=features_last,
        **whole_rows(v, positions, multiplied),
    )


def generate_backward(
    d_features: Tensor, parts: Parts, inverse: Inverse, addition: bool, of_logit: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """d_X_att and d_V, as wide as X_att and V, and d_s [B, D], of the sigmoid's argument if
    ``of_logit``.

    ``d_features`` is dense in memory as [D, N] or as [N, D].
    """
    class_offsets, class_rows, variation_offsets, variation_rows = (t.contiguous() for t in inverse)
    x_att, s, v = parts.x_att, parts.s, parts.v
    batch, channels, _ = v.shape
    positions = parts.positions
    last = channels_last(d_features)
    segments = class_segments(d_features, class_offsets, class_rows, last)
    lse = parts.column_lse()
    mean = None
    if not parts.spatial:
        mean = s.new_empty(batch, positions)
        launch = _column_mean(v, positions, addition, last)
        launch(
            (batch, divide_up(positions, launch.constants["BLOCK_N"])),
            d_features_ptr=d_features,
            segments_ptr=segments,
            x_att_ptr=x_att,
            s_ptr=s,
            v_ptr=v,
            lse_ptr=lse,
            mean_ptr=mean,
            class_offsets_ptr=class_offsets,
            class_rows_ptr=class_rows,
            variation_offsets_ptr=variation_offsets,
            variation_rows_ptr=variation_rows,
            gain=parts.gain,
        )
    d_x_att, d_s, d_v = torch.empty_like(x_att), torch.empty_like(s), torch.empty_like(v)
    launch = _backward(v, positions, parts.w is not None, addition, of_logit, last)
    launch(
        (batch, divide_up(channels, launch.constants["BLOCK_D"])),
        d_features_ptr=d_features,
        segments_ptr=segments,
        x_att_ptr=x_att,
        s_ptr=s,
        v_ptr=v,
        w_ptr=parts.w,
        lse_ptr=lse,
        mean_ptr=mean,
        class_offsets_ptr=class_offsets,
        class_rows_ptr=class_rows,
        variation_offsets_ptr=variation_offsets,
        variation_rows_ptr=variation_rows,
        d_x_att_ptr=d_x_att,
        d_s_ptr=d_s,
        d_v_ptr=d_v,
        gain=parts.gain,
    )
    return d_x_att, d_s, d_v


def split_and_generate_backward(
    d_features: Tensor,
    x_att: Tensor,
    s: Tensor,
    v: Tensor,
    class_offsets: Tensor,
    class_rows: Tensor,
    variation_offsets: Tensor,
    variation_rows: Tensor,
    spatial: bool,
    gain: float,
    addition: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """d_X_att, d_s and d_V, [B, D, N] and [B, D]."""
    check_dtype(v)
    parts = Parts(
        v.shape[2], x_att.contiguous(), s.contiguous(), v.contiguous(), None, spatial, gain
    )
    inverse = Inverse(class_offsets, class_rows, variation_offsets, variation_rows)
    return generate_backward(dense(d_features), parts, inverse, addition, of_logit=False)
