"""What a sample is split by: X_att, s and V, and the mask that is made of them (equations 2 and 3).

X_att and V are read, or made where they are needed, of the attention's output and of X by W_V: then
they are never in memory. With the mask over channels a small kernel first finds the log-sum-exp of
each column.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import LOG2E, load_block
from ltvr.kernels.launch import Launch, divide_up, dot_precision, kept, padded
from ltvr.kernels.rows import product_blocks, row_blocks

__all__ = ["Parts", "load_s", "part", "softmax", "whole_columns", "whole_rows"]

# Columns of one program of the statistics. In bfloat16 they take 32 bytes, the least that the GPU
# reads from memory.
STATISTICS_COLUMNS = 16
STATISTICS_ROWS = 128


@triton.jit
def part(block, w_ptr, w, PRECISION: tl.constexpr):
    """X_att or V [rows, cols] in float32: what was read of it, times W_V where there is one."""
    # One return: Triton would compile the code after an early return as well.
    return block.to(tl.float32) if w_ptr is None else tl.dot(block, w, input_precision=PRECISION)


@triton.jit
def load_s(s_ptr, sample, rows, D: tl.constexpr):
    return tl.load(s_ptr + sample * D + rows, mask=rows < D, other=0.0)[:, None]


@triton.jit
def softmax(scaled, lse_ptr, sample, cols, N: tl.constexpr):
    """Softmax of [rows, cols] over its columns, or over channels if ``lse_ptr`` has their lse."""
    if lse_ptr is not None:
        lse = tl.load(lse_ptr + sample * N + cols, mask=cols < N, other=0.0)
        return tl.exp2((scaled - lse[None, :]) * LOG2E)
    if cols.shape[0] > N:
        scaled = tl.where(cols[None, :] < N, scaled, float("-inf"))
    p = tl.exp2((scaled - tl.max(scaled, 1)[:, None]) * LOG2E)
    return p / tl.sum(p, 1)[:, None]


@triton.jit
def _column_lse_kernel(
    x_att_ptr,
    s_ptr,
    lse_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
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
        x_att = load_block(x_att_ptr + sample * D * WIDTH, rows, cols, D, WIDTH).to(tl.float32)
        scaled = (1 + load_s(s_ptr, sample, rows, D)) * x_att * LOG2E
        if D % BLOCK_D != 0:
            scaled = tl.where(rows[:, None] < D, scaled, float("-inf"))
        new_max = tl.maximum(col_max, tl.max(scaled, 0))
        p = tl.exp2(scaled - new_max[None, :])
        col_sum = col_sum * tl.exp2(col_max - new_max) + tl.sum(p, 0)
        col_max = new_max
    lse = (col_max + tl.log2(col_sum)) / LOG2E
    tl.store(lse_ptr + sample * N + cols, lse, mask=cols < N)


def whole_rows(v: Tensor, positions: int, multiplied: bool) -> dict[str, Any]:
    """Constants of kernels that take whole rows of parts, as many as fit a block.

    Args:
        v: V of the parts, or X [B, D, width].
        positions: N.
        multiplied: whether there is a W_V.
    """
    blocks = product_blocks(v) if multiplied else row_blocks(v)
    sizes = {"D": v.shape[1], "N": positions, "WIDTH": v.shape[2]}
    return {**sizes, "PRECISION": dot_precision(v), **blocks}


def whole_columns(v: Tensor, positions: int) -> dict[str, Any]:
    """Constants of the column statistics: few columns a program, for enough programs."""
    block_n = min(padded(positions), STATISTICS_COLUMNS)
    block_d = min(padded(v.shape[1]), STATISTICS_ROWS)
    return {
        "D": v.shape[1],
        "N": positions,
        "WIDTH": v.shape[2],
        "BLOCK_D": block_d,
        "BLOCK_N": block_n,
        "num_warps": 4,
    }


@kept
def _column_lse(v: Tensor, positions: int) -> Launch:
    return Launch(_column_lse_kernel, **whole_columns(v, positions))


class Parts(NamedTuple):
    """X_att, s and V of a batch, contiguous, and the options of the mask.

    Rows of X_att and V may have zeros behind their N positions, up to the width.
    """

    positions: int
    """N"""
    x_att: Tensor
    """X_att [B, D, width], or with ``w`` the output of the attention: X_att is that times W_V."""
    s: Tensor
    """[B, D]"""
    v: Tensor
    """V [B, D, width], or with ``w`` X: V is that times W_V."""
    w: Tensor | None
    """W_V [N, N]"""
    spatial: bool
    gain: float

    def column_lse(self) -> Tensor | None:
        """Log-sum-exp of (1 + s) X_att over the channels [B, N], where the mask is over them."""
        if self.spatial:
            return None
        batch = self.v.shape[0]
        lse = self.s.new_empty(batch, self.positions)
        launch = _column_lse(self.v, self.positions)
        grid = batch, divide_up(self.positions, launch.constants["BLOCK_N"])
        launch(grid, x_att_ptr=self.x_att, s_ptr=self.s, lse_ptr=lse)
        return lse
