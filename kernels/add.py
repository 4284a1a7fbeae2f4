"""Sums of features that lie in memory in different ways, where PyTorch makes the products.

PyTorch's own sum of features as [D, N] and as [N, D] reads or writes 2 bytes at a time.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import load_block, store_block
from ltvr.kernels.launch import Launch, divide_up, kept
from ltvr.kernels.rows import row_blocks
from ltvr.layout import channels_last

__all__ = ["add"]


@triton.jit
def _add_kernel(
    out_ptr,
    x_ptr,
    added_ptr,
    of_row_ptr,
    OUT_LAST: tl.constexpr,
    X_LAST: tl.constexpr,
    ADDED_LAST: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    X_WIDTH: tl.constexpr,
    ADDED_WIDTH: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row_base = tl.program_id(0).to(tl.int64) * D
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    x = load_block(x_ptr + row_base * X_WIDTH, rows, cols, D, X_WIDTH, X_LAST).to(tl.float32)
    if added_ptr is not None:
        added_ptr += row_base * ADDED_WIDTH
        x += load_block(added_ptr, rows, cols, D, ADDED_WIDTH, ADDED_LAST)
    if of_row_ptr is not None:
        x += tl.load(of_row_ptr + row_base + rows, mask=rows < D, other=0.0)[:, None]
    store_block(out_ptr + row_base * OUT_WIDTH, rows, cols, x, D, OUT_WIDTH, OUT_LAST)


@kept
def _sum(
    wider: Tensor,
    widths: tuple[int, int, int | None],
    out_last: bool,
    x_last: bool,
    added_last: bool,
) -> Launch:
    out_width, x_width, added_width = widths
    return Launch(
        _add_kernel,
        OUT_LAST=out_last,
        X_LAST=x_last,
        ADDED_LAST=added_last,
        OUT_WIDTH=out_width,
        X_WIDTH=x_width,
        ADDED_WIDTH=added_width,
        D=wider.shape[1],
        **row_blocks(wider),
    )


def add(
    out: Tensor, x: Tensor, added: Tensor | None = None, *, of_row: Tensor | None = None
) -> None:
    """Write X, + ``added`` [B, D, N], + ``of_row`` [B, D] in all of a row, to ``out`` [B, D, N].

    Each is dense in memory as [D, N] or as [N, D] and has its own N. Where X ends, ``out`` has what
    is added to zeros; where ``out`` ends, X is cut off.
    """
    launch = _sum(
        x if x.shape[2] > out.shape[2] else out,
        (out.shape[2], x.shape[2], None if added is None else added.shape[2]),
        channels_last(out),
        channels_last(x),
        added is not None and channels_last(added),
    )
    grid = x.shape[0], divide_up(x.shape[1], launch.constants["BLOCK_D"])
    launch(grid, out_ptr=out, x_ptr=x, added_ptr=added, of_row_ptr=of_row)
