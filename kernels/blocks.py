"""Blocks of a [D, N] sample. They are read without a mask where whole blocks make up the sample."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["LOG2E", "load_block", "store_block"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_block(ptr, rows, cols, D: tl.constexpr, N: tl.constexpr):
    """Read [rows, cols], with zeros outside the sample.

    ``rows`` and ``cols`` are ranges that start at a multiple of their own length, so that a length
    that divides D or N needs no mask.
    """
    ptrs = ptr + rows[:, None] * N + cols[None, :]
    if D // rows.shape[0] * rows.shape[0] == D:  # Triton's interpreter has no int % constexpr
        if N // cols.shape[0] * cols.shape[0] == N:
            return tl.load(ptrs)
        return tl.load(ptrs, mask=cols[None, :] < N, other=0.0)
    return tl.load(ptrs, mask=(rows[:, None] < D) & (cols[None, :] < N), other=0.0)


@triton.jit
def store_block(ptr, rows, cols, value, D: tl.constexpr, N: tl.constexpr):
    """Write [rows, cols] in the dtype of ``ptr``, except what is outside the sample."""
    ptrs = ptr + rows[:, None] * N + cols[None, :]
    mask = (rows[:, None] < D) & (cols[None, :] < N)
    tl.store(ptrs, value.to(ptr.dtype.element_ty), mask=mask)
