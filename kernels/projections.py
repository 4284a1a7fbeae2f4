"""The linear projections of the absorbed form: A = W_Q W_K^T / sqrt(N), and Q = X A.

A is absorbed from the weights once a step, and K and V of the attention are X itself
(``ltvr/afa/fused.py``). The gradients are in ``projections_backward.py``.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.add import add
from ltvr.kernels.blocks import load_block, place_rows, store_block
from ltvr.kernels.launch import divide_up, dot_precision
from ltvr.kernels.rows import product_blocks
from ltvr.layout import MOST_NARROW_POSITIONS, channels_last, width

__all__ = ["Absorbed", "absorb", "project"]


# Positions of a block of the absorbed weights, which are few: with 32 some architectures spill.
ABSORB_BLOCK = 16


@triton.jit
def _absorb_kernel(
    w_q_ptr,
    w_k_ptr,
    w_v_ptr,
    a_ptr,
    w_ptr,
    mean_ptr,
    scale,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A and W_V in the dtype of the features, [rows, cols] of each, and the row means of W_V.

    Behind the N rows and columns of the weights are zeros.
    """
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    a = tl.zeros([BLOCK, BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for first in tl.range(0, N, BLOCK):
        some = first + tl.arange(0, BLOCK)
        w_q = load_block(w_q_ptr, rows, some, N, N).to(tl.float32)
        w_k = load_block(w_k_ptr, cols, some, N, N).to(tl.float32)
        a = tl.dot(w_q, tl.trans(w_k), a, input_precision=PRECISION)
        total += tl.sum(load_block(w_v_ptr, rows, some, N, N).to(tl.float32), 1)
    store_block(a_ptr, rows, cols, a * scale, WIDTH, WIDTH)
    store_block(w_ptr, rows, cols, load_block(w_v_ptr, rows, cols, N, N), WIDTH, WIDTH)
    tl.store(mean_ptr + rows, total / N, mask=(rows < WIDTH) & (tl.program_id(1) == 0))


@triton.jit
def _project_kernel(
    x_ptr,
    a_ptr,
    q_ptr,
    copy_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Q = X A; X as [N, D] is copied to [D, N] as well, which the attention reads."""
    base, _, rows = place_rows(D, N, BLOCK_D)
    X_LAST: tl.constexpr = copy_ptr is not None
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    q = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    for first in tl.static_range(0, N, BLOCK_N):
        some = first + tl.arange(0, BLOCK_N)
        x = load_block(x_ptr + base, rows, some, D, N, X_LAST)
        q = tl.dot(x, load_block(a_ptr, some, cols, N, N), q, input_precision=PRECISION)
    store_block(q_ptr + base, rows, cols, q, D, N)
    if X_LAST:
        x = load_block(x_ptr + base, rows, cols, D, N, X_LAST)
        store_block(copy_ptr + base, rows, cols, x, D, N)


class Absorbed(NamedTuple):
    """What the kernels take of the weights, made of them once a step; zeros behind N columns."""

    a: Tensor
    """[width, width] A = W_Q W_K^T / sqrt(N), in the dtype of the features."""
    w: Tensor
    """[width, width] W_V, in the dtype of the features."""
    mean: Tensor
    """[width] row means of W_V in float32: z = mean(out W_V) = out . mean(W_V)."""


def absorb(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Absorbed:
    """Absorb the weights [N, N] for features like ``x`` [B, D, N]."""
    positions = x.shape[2]
    columns = width(x)
    a, w = (x.new_empty(columns, columns) for _ in range(2))
    mean = x.new_empty(columns, dtype=torch.float32)
    tiles = divide_up(columns, ABSORB_BLOCK)
    with torch.cuda.device_of(x):
        _absorb_kernel[tiles, tiles](
            w_q_ptr=w_q.contiguous(),
            w_k_ptr=w_k.contiguous(),
            w_v_ptr=w_v.contiguous(),
            a_ptr=a,
            w_ptr=w,
            mean_ptr=mean,
            scale=1 / math.sqrt(positions),
            N=positions,
            WIDTH=columns,
            BLOCK=ABSORB_BLOCK,
            PRECISION=dot_precision(mean),
            num_warps=2,
        )
    return Absorbed(a, w, mean)


def project(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Q = X A and X, [B, D, width] as [D, width] in memory: ``x`` itself where it is that."""
    batch, channels, positions = x.shape
    columns = a.shape[0]
    copy = None
    if columns > positions or channels_last(x):
        copy = x.new_empty(batch, channels, columns)
    if positions > MOST_NARROW_POSITIONS:
        if copy is not None:
            add(copy, x)
            x = copy
        return x @ a, x
    q = x.new_empty(x.shape)
    sizes = product_blocks(x)
    grid = batch * divide_up(channels, sizes["BLOCK_D"]), divide_up(positions, sizes["BLOCK_N"])
    with torch.cuda.device_of(x):
        _project_kernel[grid](
            x_ptr=x,
            a_ptr=a,
            q_ptr=q,
            copy_ptr=copy,
            D=channels,
            N=positions,
            PRECISION=dot_precision(x),
            **sizes,
        )
    return q, x if copy is None else copy
