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
def _split(
    x_att_ptr, s_ptr, v_ptr, w_ptr, w, lse_ptr, gain, sample, rows, cols,
    D: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """X_class and X_var [rows, cols] of a sample."""
    x_att = part(x_att_ptr, w_ptr, w, sample, rows, cols, D, N, PRECISION)
    v = part(v_ptr, w_ptr, w, sample, rows, cols, D, N, PRECISION)
    scaled = (1 + load_s(s_ptr, sample, rows, D)) * x_att
    class_related = gain * softmax(scaled, lse_ptr, sample, cols, N) * v
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
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    target = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    w = cols if w_ptr is None else load_block(w_ptr, cols, cols, N, N)  # W_V, if there is one
    if target >= batch:
        i = tl.load(class_index_ptr + target - batch)
        j = tl.load(variation_index_ptr + target - batch)
        out, _ = _split(
            x_att_ptr, s_ptr, v_ptr, w_ptr, w, lse_ptr, gain, i, rows, cols, D, N, PRECISION
        )  # fmt: skip
        _, variation = _split(
            x_att_ptr, s_ptr, v_ptr, w_ptr, w, lse_ptr, gain, j, rows, cols, D, N, PRECISION
        )  # fmt: skip
        out += variation
    else:
        out = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
        if x_ptr is not None:
            out += load_block(x_ptr + target * D * N, rows, cols, D, N)
        if ADDITION:
            out += _split(
                x_att_ptr, s_ptr, v_ptr, w_ptr, w, lse_ptr, gain, target, rows, cols,
                D, N, PRECISION,
            )[0]  # fmt: skip
    store_block(out_ptr + target * D * N, rows, cols, out, D, N, FEATURES_LAST)


@kept
def _generation(v: Tensor, multiplied: bool, addition: bool, features_last: bool) -> Launch:
    return Launch(
        _forward_kernel,
        batch=v.shape[0],
        ADDITION=addition,
        FEATURES_LAST=features_last,
        **whole_rows(v, multiplied),
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
    out = empty_features(parts.v, rows, features_last)
    launch = _generation(parts.v, parts.w is not None, addition, features_last)
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
    parts = Parts(x_att.contiguous(), s.contiguous(), v.contiguous(), None, spatial, gain)
    return generate(x, parts, class_index, variation_index, addition, features_last=False)
