"""Blocks of a [D, N] sample. They are read without a mask where whole blocks make up the sample."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["LOG2E", "load_block", "offsets", "place", "products", "store_block"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def offsets(rows, cols, D: tl.constexpr, N: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Where [rows, cols] lie in a sample: [D, N] in memory, or [N, D] if CHANNELS_LAST."""
    if CHANNELS_LAST:
        return rows[:, None] + cols[None, :] * D
    return rows[:, None] * N + cols[None, :]


@triton.jit
def load_block(
    ptr, rows, cols, D: tl.constexpr, N: tl.constexpr, CHANNELS_LAST: tl.constexpr = False
):  # fmt: skip
    """Read [rows, cols], with zeros outside the sample.

    ``rows`` and ``cols`` are ranges that start at a multiple of their own length, so that a length
    that divides D or N needs no mask.
    """
    ptrs = ptr + offsets(rows, cols, D, N, CHANNELS_LAST)
    if D // rows.shape[0] * rows.shape[0] == D:  # Triton's interpreter has no int % constexpr
        if N // cols.shape[0] * cols.shape[0] == N:
            return tl.load(ptrs)
        return tl.load(ptrs, mask=cols[None, :] < N, other=0.0)
    return tl.load(ptrs, mask=(rows[:, None] < D) & (cols[None, :] < N), other=0.0)


@triton.jit
def store_block(
    ptr, rows, cols, value, D: tl.constexpr, N: tl.constexpr, CHANNELS_LAST: tl.constexpr = False
):  # fmt: skip
    """Write [rows, cols] in the dtype of ``ptr``, except what is outside the sample."""
    ptrs = ptr + offsets(rows, cols, D, N, CHANNELS_LAST)
    mask = (rows[:, None] < D) & (cols[None, :] < N)
    tl.store(ptrs, value.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def place(D: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr):
    """Return what this program works on: offset of the sample, its index times D, rows, columns.

    Programs next to each other have blocks of the same sample, so that they find its keys in L2.
    """
    blocks: tl.constexpr = (D + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    sample = (pid // blocks).to(tl.int64)
    rows = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    return sample * D * N, sample * D, rows, cols


@triton.jit
def products(
    a, a_ptr, a_rows, b, b_ptr, b_rows, D: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """Return A B^T, summed over all N positions.

    ``a`` and ``b`` hold the columns of this program. Where these are not all, every block of
    columns is read in its turn.
    """
    if a.shape[1] >= N:
        return tl.dot(a, tl.trans(b), input_precision=PRECISION)
    acc = tl.zeros([a.shape[0], b.shape[0]], tl.float32)
    for first in tl.range(0, N, a.shape[1]):
        cols = first + tl.arange(0, a.shape[1])
        a = load_block(a_ptr, a_rows, cols, D, N)
        b = load_block(b_ptr, b_rows, cols, D, N)
        acc = tl.dot(a, tl.trans(b), acc, input_precision=PRECISION)
    return acc
