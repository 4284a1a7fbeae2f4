"""Mask, split, attention addition and generation in one pass, and its backward.

The schemas are in ``ltvr/afa/ops.py``, equations 3-6 and 11 are in ``ltvr/afa/reference.py``. Real
and generated rows go straight into the [B+G, D, N] output. A generated row makes the masks of its
two samples again from X_att, which is cheaper than writing X_class and X_var to memory and reading
them back. With the mask over positions each channel is computed for itself; with the mask over
channels, small kernels first find the statistics of each column.

The grid runs over the samples first, then over the blocks of channels. So at any time one block of
channels is at work, in all samples: what a program gathers from other samples is in L2, and each
tensor is read from memory once. The backward gathers through the inverse index, in ascending
order of the generated rows: every gradient has one writer, and sums have a fixed order.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import LOG2E, load_block, store_block
from ltvr.kernels.launch import check_dtype, padded

__all__ = ["split_and_generate", "split_and_generate_backward"]

# Elements of a block. They are 16 a thread: enough for loads of 16 bytes, and few enough that the
# five tensors of the backward fit the registers. All GPUs take the same, as the time of these
# kernels is that of reading and writing memory.
BLOCK_ELEMENTS = 2048
WARPS = 4
# Columns of one program of the statistics. In bfloat16 they take 32 bytes, the least that the GPU
# reads from memory.
STATISTICS_COLUMNS = 16
# How many gathered rows are on their way from memory at a time.
UNROLL = tl.constexpr(4)


@triton.jit
def _load_scaled(x_att_ptr, s_ptr, sample, rows, cols, D: tl.constexpr, N: tl.constexpr):
    """X_att [rows, cols] and 1 + s [rows, 1], in float32."""
    x_att = load_block(x_att_ptr + sample * D * N, rows, cols, D, N).to(tl.float32)
    s = tl.load(s_ptr + sample * D + rows, mask=rows < D, other=0.0)
    return x_att, 1 + s[:, None]


@triton.jit
def _softmax(scaled, lse_ptr, sample, cols, N: tl.constexpr):
    """Softmax of [rows, cols] over its columns, or over channels if ``lse_ptr`` has their lse."""
    if lse_ptr is not None:
        lse = tl.load(lse_ptr + sample * N + cols, mask=cols < N, other=0.0)
        return tl.exp2((scaled - lse[None, :]) * LOG2E)
    if cols.shape[0] > N:
        scaled = tl.where(cols[None, :] < N, scaled, float("-inf"))
    p = tl.exp2((scaled - tl.max(scaled, 1)[:, None]) * LOG2E)
    return p / tl.sum(p, 1)[:, None]


@triton.jit
def _split(
    x_att_ptr, s_ptr, v_ptr, lse_ptr, gain, sample, rows, cols, D: tl.constexpr, N: tl.constexpr
):  # fmt: skip
    """X_class and X_var [rows, cols] of a sample."""
    x_att, scale = _load_scaled(x_att_ptr, s_ptr, sample, rows, cols, D, N)
    v = load_block(v_ptr + sample * D * N, rows, cols, D, N).to(tl.float32)
    class_related = gain * _softmax(scale * x_att, lse_ptr, sample, cols, N) * v
    return class_related, v - class_related


@triton.jit
def _forward_kernel(
    x_ptr,
    x_att_ptr,
    s_ptr,
    v_ptr,
    lse_ptr,
    class_index_ptr,
    variation_index_ptr,
    out_ptr,
    batch,
    gain,
    ADDITION: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    target = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    if target >= batch:
        i = tl.load(class_index_ptr + target - batch)
        j = tl.load(variation_index_ptr + target - batch)
        class_related, _ = _split(x_att_ptr, s_ptr, v_ptr, lse_ptr, gain, i, rows, cols, D, N)
        _, variation = _split(x_att_ptr, s_ptr, v_ptr, lse_ptr, gain, j, rows, cols, D, N)
        out = class_related + variation
    else:
        out = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
        if x_ptr is not None:
            out += load_block(x_ptr + target * D * N, rows, cols, D, N)
        if ADDITION:
            out += _split(x_att_ptr, s_ptr, v_ptr, lse_ptr, gain, target, rows, cols, D, N)[0]
    store_block(out_ptr + target * D * N, rows, cols, out, D, N)


@triton.jit
def _column_lse_kernel(
    x_att_ptr,
    s_ptr,
    lse_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Log-sum-exp over the channels of each column of (1 + s) X_att."""
    sample = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    col_max = tl.full([BLOCK_N], float("-inf"), tl.float32)
    col_sum = tl.zeros([BLOCK_N], tl.float32)
    for start in tl.range(0, D, BLOCK_D):
        rows = start + tl.arange(0, BLOCK_D)
        # [BLOCK_D, BLOCK_N]
        x_att, scale = _load_scaled(x_att_ptr, s_ptr, sample, rows, cols, D, N)
        scaled = scale * x_att * LOG2E
        if D % BLOCK_D != 0:
            scaled = tl.where(rows[:, None] < D, scaled, float("-inf"))
        new_max = tl.maximum(col_max, tl.max(scaled, 0))
        p = tl.exp2(scaled - new_max[None, :])
        col_sum = col_sum * tl.exp2(col_max - new_max) + tl.sum(p, 0)
        col_max = new_max
    lse = (col_max + tl.log2(col_sum)) / LOG2E
    tl.store(lse_ptr + sample * N + cols, lse, mask=cols < N)


@triton.jit
def _gather(
    d_features_ptr, offsets_ptr, rows_ptr, batch, sample, rows, cols,
    ADD_REAL_ROW: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Sum of the gradients of the generated rows that took this sample's feature.

    With ADD_REAL_ROW, plus the gradient of its real row: attention addition puts X_class there too.
    """
    ptrs = d_features_ptr + rows[:, None] * N + cols[None, :]
    inside = (rows[:, None] < D) & (cols[None, :] < N)
    first = tl.load(offsets_ptr + sample)
    last = tl.load(offsets_ptr + sample + 1)
    acc = tl.zeros([rows.shape[0], cols.shape[0]], tl.float32)
    for start in range(first, last, UNROLL):
        for step in tl.static_range(UNROLL):
            taken = start + step < last
            g = tl.load(rows_ptr + start + step, mask=taken, other=0)
            d = tl.load(ptrs + (batch + g) * D * N, mask=inside & taken, other=0.0)
            acc += d.to(tl.float32)
    if ADD_REAL_ROW:
        acc += load_block(d_features_ptr + sample * D * N, rows, cols, D, N)
    return acc


@triton.jit
def _column_mean_kernel(
    d_features_ptr,
    x_att_ptr,
    s_ptr,
    v_ptr,
    lse_ptr,
    mean_ptr,
    class_offsets_ptr,
    class_rows_ptr,
    variation_offsets_ptr,
    variation_rows_ptr,
    batch,
    gain,
    ADDITION: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
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
        d_class = _gather(
            d_features_ptr, class_offsets_ptr, class_rows_ptr, batch, sample, rows, cols,
            ADD_REAL_ROW=ADDITION, D=D, N=N,
        )  # fmt: skip
        d_variation = _gather(
            d_features_ptr, variation_offsets_ptr, variation_rows_ptr, batch, sample, rows, cols,
            ADD_REAL_ROW=False, D=D, N=N,
        )  # fmt: skip
        v = load_block(v_ptr + sample * D * N, rows, cols, D, N)
        difference = d_class - d_variation
        d_mask = gain * v.to(tl.float32) * difference
        x_att, scale = _load_scaled(x_att_ptr, s_ptr, sample, rows, cols, D, N)
        mask = _softmax(scale * x_att, lse_ptr, sample, cols, N)
        if D % BLOCK_D != 0:  # mask may overflow outside the sample: 0 * inf is NaN
            mask = tl.where(rows[:, None] < D, mask, 0.0)
        mean += tl.sum(mask * d_mask, 0)
    tl.store(mean_ptr + sample * N + cols, mean, mask=cols < N)


@triton.jit
def _backward_kernel(
    d_features_ptr,
    x_att_ptr,
    s_ptr,
    v_ptr,
    lse_ptr,
    mean_ptr,
    class_offsets_ptr,
    class_rows_ptr,
    variation_offsets_ptr,
    variation_rows_ptr,
    d_x_att_ptr,
    d_s_ptr,
    d_v_ptr,
    batch,
    gain,
    ADDITION: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    base = sample * D * N
    # [BLOCK_D, BLOCK_N]
    d_class = _gather(
        d_features_ptr, class_offsets_ptr, class_rows_ptr, batch, sample, rows, cols,
        ADD_REAL_ROW=ADDITION, D=D, N=N,
    )  # fmt: skip
    d_variation = _gather(
        d_features_ptr, variation_offsets_ptr, variation_rows_ptr, batch, sample, rows, cols,
        ADD_REAL_ROW=False, D=D, N=N,
    )  # fmt: skip
    v = load_block(v_ptr + sample * D * N, rows, cols, D, N)
    difference = d_class - d_variation
    d_mask = gain * v.to(tl.float32) * difference
    x_att, scale = _load_scaled(x_att_ptr, s_ptr, sample, rows, cols, D, N)
    mask = _softmax(scale * x_att, lse_ptr, sample, cols, N)
    if mean_ptr is None:
        mean = tl.sum(mask * d_mask, 1)[:, None]
    else:
        mean = tl.load(mean_ptr + sample * N + cols, mask=cols < N, other=0.0)[None, :]
    d_scaled = mask * (d_mask - mean)
    store_block(d_x_att_ptr + base, rows, cols, scale * d_scaled, D, N)
    tl.store(d_s_ptr + sample * D + rows, tl.sum(x_att * d_scaled, 1), mask=rows < D)
    store_block(d_v_ptr + base, rows, cols, d_variation + gain * mask * difference, D, N)


def _rows(samples: int, channels: int, positions: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Grid and block sizes of the kernels that take whole rows: as many as fit a block."""
    block_n = padded(positions)
    block_d = min(padded(channels), max(1, BLOCK_ELEMENTS // block_n))
    blocks = {"BLOCK_D": block_d, "BLOCK_N": block_n, "num_warps": WARPS}
    return (samples, triton.cdiv(channels, block_d)), blocks


def _columns(samples: int, channels: int, positions: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Grid and block sizes of the column statistics: few columns each, for enough programs."""
    block_n = min(padded(positions), STATISTICS_COLUMNS)
    block_d = min(padded(channels), BLOCK_ELEMENTS // block_n)
    blocks = {"BLOCK_D": block_d, "BLOCK_N": block_n, "num_warps": WARPS}
    return (samples, triton.cdiv(positions, block_n)), blocks


def _column_lse(x_att: Tensor, s: Tensor) -> Tensor:
    batch, channels, positions = x_att.shape
    lse = s.new_empty(batch, positions)
    grid, blocks = _columns(batch, channels, positions)
    _column_lse_kernel[grid](
        x_att_ptr=x_att, s_ptr=s, lse_ptr=lse, D=channels, N=positions, **blocks
    )
    return lse


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
    x_att, s, v = x_att.contiguous(), s.contiguous(), v.contiguous()
    class_index, variation_index = class_index.contiguous(), variation_index.contiguous()
    batch, channels, positions = v.shape
    out = v.new_empty(batch + class_index.shape[0], channels, positions)
    grid, blocks = _rows(out.shape[0], channels, positions)
    with torch.cuda.device_of(v):
        lse = None if spatial else _column_lse(x_att, s)
        _forward_kernel[grid](
            x_ptr=x,
            x_att_ptr=x_att,
            s_ptr=s,
            v_ptr=v,
            lse_ptr=lse,
            class_index_ptr=class_index,
            variation_index_ptr=variation_index,
            out_ptr=out,
            batch=batch,
            gain=gain,
            ADDITION=addition or x is None,
            D=channels,
            N=positions,
            **blocks,
        )
    return out


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
    d_features, x_att, s, v = (t.contiguous() for t in (d_features, x_att, s, v))
    class_offsets, class_rows = class_offsets.contiguous(), class_rows.contiguous()
    variation_offsets, variation_rows = variation_offsets.contiguous(), variation_rows.contiguous()
    batch, channels, positions = v.shape
    d_x_att, d_s, d_v = torch.empty_like(x_att), torch.empty_like(s), torch.empty_like(v)
    common = {
        "d_features_ptr": d_features,
        "x_att_ptr": x_att,
        "s_ptr": s,
        "v_ptr": v,
        "class_offsets_ptr": class_offsets,
        "class_rows_ptr": class_rows,
        "variation_offsets_ptr": variation_offsets,
        "variation_rows_ptr": variation_rows,
        "batch": batch,
        "gain": gain,
        "ADDITION": addition,
        "D": channels,
        "N": positions,
    }
    lse = mean = None
    with torch.cuda.device_of(v):
        if not spatial:
            lse, mean = _column_lse(x_att, s), s.new_empty(batch, positions)
            grid, blocks = _columns(batch, channels, positions)
            _column_mean_kernel[grid](**common, lse_ptr=lse, mean_ptr=mean, **blocks)
        grid, blocks = _rows(batch, channels, positions)
        _backward_kernel[grid](
            **common,
            lse_ptr=lse,
            mean_ptr=mean,
            d_x_att_ptr=d_x_att,
            d_s_ptr=d_s,
            d_v_ptr=d_v,
            **blocks,
        )
    return d_x_att, d_s, d_v
