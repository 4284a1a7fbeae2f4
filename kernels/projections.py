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
from ltvr.kernels.launch import Launch, divide_up, dot_precision, kept
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
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    LAST: tl.constexpr = copy_ptr is not None
    q = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    for first in tl.static_range(0, N, BLOCK_N):
        some = first + tl.arange(0, BLOCK_N)
        x = load_block(x_ptr + base, rows, some, D, N, LAST)
        q = tl.dot(x, load_block(a_ptr, some, cols, N, N), q, input_precision=PRECISION)
    store_block(q_ptr + base, rows, cols, q, D, N)
    if LAST:
        x = load_block(x_ptr + base, rows, cols, D, N, True)
        store_block(copy_ptr + base, rows, cols, x, D, N)


class Absorbed(NamedTuple):
    """What the kernels take of the weights, made of them once a step; zeros behind N columns."""

    a: Tensor
    """[width, width] A = W_Q W_K^T / sqrt(N), in the dtype of the features."""
    w: Tensor
    """[width, width] W_V, in the dtype of the features."""
    mean: Tensor
    """[width] row means of W_V in float32: z = mean(out W_V) = out . mean(W_V)."""


@kept
def _absorption(x: Tensor, precision: str) -> Launch:
    sizes = {"N": x.shape[2], "WIDTH": width(x), "BLOCK": ABSORB_BLOCK}
    return Launch(_absorb_kernel, **sizes, PRECISION=precision, num_warps=2)


def absorb(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Absorbed:
    """Absorb the weights [N, N] for features like ``x`` [B, D, N]."""
    positions = x.shape[2]
    columns = width(x)
    a, w = (x.new_empty(columns, columns) for _ in range(2))
    mean = x.new_empty(columns, dtype=torch.float32)
    tiles = divide_up(columns, ABSORB_BLOCK)
    launch = _absorption(x, dot_precision(mean))
    launch(
        (tiles, tiles),
        w_q_ptr=w_q.contiguous(),
        w_k_ptr=w_k.contiguous(),
        w_v_ptr=w_v.contiguous(),
        a_ptr=a,
        w_ptr=w,
        mean_ptr=mean,
        scale=1 / math.sqrt(positions),
    )
    return Absorbed(a, w, mean)


@kept
def _projection(x: Tensor) -> Launch:
    constants = {"D": x.shape[1], "N": x.shape[2], "PRECISION": dot_precision(x)}
    return Launch(_project_kernel, **constants, **product_blocks(x))


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
    q = x.new_empty(batch, channels, positions)
    launch = _projection(x)
    blocks = divide_up(channels, launch.constants["BLOCK_D"])
    grid = batch * blocks, divide_up(positions, launch.constants["BLOCK_N"])
    launch(grid, x_ptr=x, a_ptr=a, q_ptr=q, copy_ptr=copy)
    return q, x if copy is None else copy
