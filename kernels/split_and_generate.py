"""Mask, split, attention addition and generation in one pass.

The schemas are in ``ltvr/afa/ops.py``, equations 3-6 and 11 are in ``ltvr/afa/reference.py``. Real
and generated rows go straight into the [B+G, D, N] output. A generated row makes the masks of its
two samples again from X_att, which is cheaper than writing X_class and X_var to memory and reading
them back. With the mask over positions each channel is computed for itself.

The grid runs over the samples first, then over the blocks of channels. So at any time one block of
channels is at work, in all samples: what a program gathers from other samples is in L2, and each
tensor is read from memory once.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import load_block, store_block
from ltvr.kernels.launch import Launch, check_dtype, divide_up, kept
from ltvr.kernels.parts import Parts, load_s, part, softmax, whole_rows
from ltvr.layout import empty_features

__all__ = ["generate", "split_and_generate"]


@triton.jit
def _load(x_att_ptr, v_ptr, sample, rows, cols, D: tl.constexpr, WIDTH: tl.constexpr):
    """What X_att and V [rows, cols] of a sample are made of."""
    base = sample * D * WIDTH
    return (
        load_block(x_att_ptr + base, rows, cols, D, WIDTH),
        load_block(v_ptr + base, rows, cols, D, WIDTH),
    )


@triton.jit
def _split(
    x_att, v, s, w_ptr, w, lse_ptr, gain, sample, cols, N: tl.constexpr, PRECISION: tl.constexpr
):
    """X_class and X_var [rows, cols] of a sample, of what ``load_block`` read of X_att and V."""
    x_att, v = part(x_att, w_ptr, w, PRECISION), part(v, w_ptr, w, PRECISION)
    class_related = gain * softmax((1 + s) * x_att, lse_ptr, sample, cols, N) * v
    return class_related, v - class_related


@triton.jit
def _forward_kernel(
    x_ptr,
    x_att_ptr,
    s_ptr,
    v_ptr,
    w_ptr,
    lse_ptr,
    class_index_ptr,
    variation_index_ptr,
    out_ptr,
    gain,
    batch,
    ADDITION: tl.constexpr,
    FEATURES_LAST: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    target = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    w = cols if w_ptr is None else load_block(w_ptr, cols, cols, N, N)  # W_V, if there is one
    # All is on its way from memory before the first product waits for any of it.
    if target >= batch:
        i = tl.load(class_index_ptr + target - batch)
        j = tl.load(variation_index_ptr + target - batch)
        x_att_i, v_i = _load(x_att_ptr, v_ptr, i, rows, cols, D, WIDTH)
        x_att_j, v_j = _load(x_att_ptr, v_ptr, j, rows, cols, D, WIDTH)
        s_i, s_j = load_s(s_ptr, i, rows, D), load_s(s_ptr, j, rows, D)
        out, _ = _split(x_att_i, v_i, s_i, w_ptr, w, lse_ptr, gain, i, cols, N, PRECISION)
        _, variation = _split(x_att_j, v_j, s_j, w_ptr, w, lse_ptr, gain, j, cols, N, PRECISION)
        out += variation
    else:
        out = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
        if x_ptr is not None:
            out += load_block(x_ptr + target * D * WIDTH, rows, cols, D, WIDTH)
        if ADDITION:
            x_att, v = _load(x_att_ptr, v_ptr, target, rows, cols, D, WIDTH)
            s = load_s(s_ptr, target, rows, D)
            out += _split(x_att, v, s, w_ptr, w, lse_ptr, gain, target, cols, N, PRECISION)[0]
    store_block(out_ptr + target * D * N, rows, cols, out, D, N, FEATURES_LAST)


@kept
def _generation(
    v: Tensor, positions: int, multiplied: bool, addition: bool, features_last: bool
) -> Launch:
    return Launch(
        _forward_kernel,
        batch=v.shape[0],
        ADDITION=addition,
        FEATURES_LAST=features_last,
        **whole_rows(v, positions, multiplied),
    )


def generate(
    x: Tensor | None,
    parts: Parts,
    class_index: Tensor,
    variation_index: Tensor,
    addition: bool,
    features_last: bool,
) -> Tensor:
    """Real and generated rows, [B+G, D, N]; in memory [B+G, N, D] if ``features_last``."""
    batch, channels, _ = parts.v.shape
    rows = batch + class_index.shape[0]
    out = empty_features(parts.v, (rows, channels, parts.positions), features_last)
    multiplied = parts.w is not None
    launch = _generation(parts.v, parts.positions, multiplied, addition, features_last)
    launch(
        (rows, divide_up(channels, launch.constants["BLOCK_D"])),
        x_ptr=x,
        x_att_ptr=parts.x_att,
        s_ptr=parts.s,
        v_ptr=parts.v,
        w_ptr=parts.w,
        lse_ptr=parts.column_lse(),
        class_index_ptr=class_index.contiguous(),
        variation_index_ptr=variation_index.contiguous(),
        out_ptr=out,
        gain=parts.gain,
    )
    return out


def split_and_generate(
    x: Tensor | None,
    x_att: Tensor,
    s: Tensor,
    v: Tensor,
    class_index: Tensor,
    variation_index: Tensor,
    spatial: bool,
    gain: float,
    addition: bool,
) -> Tensor:
    """Real and generated rows, [B+G, D, N]."""
    check_dtype(v)
    x = None if x is None else x.contiguous()
    parts = Parts(
        v.shape[2], x_att.contiguous(), s.contiguous(), v.contiguous(), None, spatial, gain
    )
    return generate(x, parts, class_index, variation_index, addition, features_last=False)
