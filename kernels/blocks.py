"""Blocks of a [D, N] sample, read and written with masks only where they do not fit."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["LOG2E", "load_block", "store_block"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_block(ptr, rows, cols, D: tl.constexpr, N: tl.constexpr):
    """[rows, cols], zero outside the sample; both are blocks that start at a multiple of theirs."""
    ptrs = ptr + rows[:, None] * N + cols[None, :]
    if D // rows.shape[0] * rows.shape[0] == D:  # the interpreter has no int % constexpr
        if N // cols.shape[0] * cols.shape[0] == N:
            return tl.load(ptrs)
        return tl.load(ptrs, mask=cols[None, :] < N, other=0.0)
    return tl.load(ptrs, mask=(rows[:, None] < D) & (cols[None, :] < N), other=0.0)


@triton.jit
def store_block(ptr, rows, cols, value, D: tl.constexpr, N: tl.constexpr):
    """Write [rows, cols] in the dtype of ``ptr``."""
    ptrs = ptr + rows[:, None] * N + cols[None, :]
    mask = (rows[:, None] < D) & (cols[None, :] < N)
    tl.store(ptrs, value.to(ptr.dtype.element_ty), mask=mask)
