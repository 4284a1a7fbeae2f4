"""float32 tensors as bfloat16 pieces that add up to them, for the matrix unit of Hopper.

A product of float32 tensors becomes products of their pieces: two pieces hold 16 bits of a number
(TF32 has 11), and three all 24. wgmma takes TF32 only from operands whose summed dimension is
contiguous. The attention needs keys in both orders, and a copy in the other order, made for every
block, keeps shared memory busy for longer than the products take. bfloat16 it takes in any order.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.launch import Launch, divide_up, kept

__all__ = ["in_pieces", "product", "split", "transposed", "whole"]

# Not a 16-bit float of more bits: only bfloat16 has the range of float32.
DTYPE = torch.bfloat16
_BLOCK = 2048


@triton.jit
def split(x, dtype: tl.constexpr, PIECES: tl.constexpr):
    """Return pieces of ``x``: it rounded to ``dtype``, what is left rounded, and so on."""
    pieces = (x.to(dtype),)
    for i in tl.static_range(1, PIECES):
        x -= pieces[i - 1].to(tl.float32)
        pieces += (x.to(dtype),)
    return pieces


@triton.jit
def whole(pieces):
    """Return what the pieces add up to, in float32."""
    x = pieces[len(pieces) - 1].to(tl.float32)
    for i in tl.static_range(1, len(pieces)):
        x += pieces[len(pieces) - 1 - i].to(tl.float32)
    return x


@triton.jit
def transposed(pieces):
    """Return each piece transposed."""
    found = ()
    for i in tl.static_range(len(pieces)):
        found += (tl.trans(pieces[i]),)
    return found


@triton.jit
def product(a, b, acc, PRECISION: tl.constexpr):
    """Return ``acc`` + A B, of their pieces: all products but those below the last bit kept.

    The smallest are added first. The matrix unit cuts off what its sum has no bits for, at every
    16 numbers: the sum over all keys would err by 1e-5 in place of 1e-7. So where three pieces are
    to be as exact as float32, each block has a sum of its own, added by an addition that rounds.
    """
    count: tl.constexpr = len(a)
    total = tl.zeros_like(acc) if count == 3 else acc
    for more in tl.static_range(count):
        for i in tl.static_range(count - more):
            total = tl.dot(a[i], b[count - 1 - more - i], total, input_precision=PRECISION)
    if count == 3:
        total += acc
    return total


@triton.jit
def _split_kernel(x_ptr, pieces_ptr, size, PIECES: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size, other=0.0)
    pieces = split(x, pieces_ptr.dtype.element_ty, PIECES)
    for i in tl.static_range(PIECES):
        tl.store(pieces_ptr + i * size.to(tl.int64) + at, pieces[i], mask=at < size)


@kept
def _splitting(x: Tensor, pieces: int) -> Launch:
    return Launch(_split_kernel, size=x.numel(), PIECES=pieces, BLOCK=_BLOCK, num_warps=4)


def in_pieces(x: Tensor, pieces: int) -> Tensor:
    """Return ``x`` (contiguous) in so many pieces [pieces, *x.shape]; one piece is ``x`` itself."""
    if pieces == 1:
        return x
    found = x.new_empty(pieces, *x.shape, dtype=DTYPE)
    _splitting(x, pieces)((divide_up(x.numel(), _BLOCK),), x_ptr=x, pieces_ptr=found)
    return found
