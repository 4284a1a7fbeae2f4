"""A Triton kernel that does nothing but exponentials, in registers."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["exp_rate_kernel"]


@triton.jit
def exp_rate_kernel(out_ptr, SIZE: tl.constexpr, REPEATS: tl.constexpr):
    """REPEATS exponentials, one on the other, for each of SIZE values a program."""
    offsets = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x = -offsets.to(tl.float32)
    for _ in range(REPEATS):
        x = tl.exp2(-x)
    tl.store(out_ptr + offsets, x)
