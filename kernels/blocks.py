"""Blocks of a [D, N] sample. They are read without a mask where whole blocks make up the sample.

A block's sides are powers of two. Columns that are not are made of parts beside each other: a tuple
of blocks with the same rows, whose PARTS are pairs of offset and width. Operands of products are
parts in pieces (``pieces.py``), one piece or more, which lie STRIDE elements from each other.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="assignment"

from __future__ import annotations

import triton
import triton.language as tl

from ltvr.kernels.pieces import product, transposed

__all__ = [
    "LOG2E",
    "add_products",
    "first_column",
    "load_block",
    "load_operand",
    "load_parts",
    "place_rows",
    "pointers",
    "products",
    "scale_parts",
    "store_block",
    "store_parts",
    "zero_parts",
]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def pointers(ptr, rows, cols, D: tl.constexpr, N: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Where [rows, cols] lie of a sample: [D, N] in memory, or [N, D] if CHANNELS_LAST.

    The rows are added first: pointers of rows are kept from block to block, and the other order
    took up to 77 more registers.
    """
    if CHANNELS_LAST:
        return ptr + rows[:, None] + cols[None, :] * D
    else:  # what follows a return is compiled as well
        return ptr + rows[:, None] * N + cols[None, :]


@triton.jit
def load_block(
    ptr, rows, cols, D: tl.constexpr, N: tl.constexpr, CHANNELS_LAST: tl.constexpr = False
):  # fmt: skip
    """Read [rows, cols], with zeros outside the sample.

    ``rows`` and ``cols`` are ranges that start at a multiple of their own length, so that a length
    that divides D or N needs no mask.
    """
    ptrs = pointers(ptr, rows, cols, D, N, CHANNELS_LAST)
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
    ptrs = pointers(ptr, rows, cols, D, N, CHANNELS_LAST)
    mask = (rows[:, None] < D) & (cols[None, :] < N)
    tl.store(ptrs, value.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def place_rows(D: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    """Return what this program works on: offset of the sample, its index times D, rows.

    Programs next to each other have blocks of the same sample, so that they find its keys in L2.
    """
    blocks: tl.constexpr = (D + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    sample = (pid // blocks).to(tl.int64)
    rows = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    return sample * D * N, sample * D, rows


@triton.jit
def first_column(N: tl.constexpr, PARTS: tl.constexpr):
    """Return the first column of this program; the others follow in PARTS, (offset, width) each."""
    if PARTS[len(PARTS) - 1][0] + PARTS[len(PARTS) - 1][1] >= N:
        return 0
    return tl.program_id(1) * PARTS[0][1]


@triton.jit
def load_parts(ptr, rows, first, PARTS: tl.constexpr, D: tl.constexpr, N: tl.constexpr):
    """Read the columns from ``first`` on, a block for each part."""
    blocks = ()
    for i in tl.static_range(len(PARTS)):
        cols = first + PARTS[i][0] + tl.arange(0, PARTS[i][1])
        blocks += (load_block(ptr, rows, cols, D, N),)
    return blocks


@triton.jit
def _load_pieces(
    ptr, stride, rows, cols, D: tl.constexpr, N: tl.constexpr, PIECES: tl.constexpr
):  # fmt: skip
    pieces = ()
    for i in tl.static_range(PIECES):
        start = ptr + i * tl.cast(stride, tl.int64)  # of three pieces the last may begin past 2^31
        pieces += (load_block(start, rows, cols, D, N),)
    return pieces


@triton.jit
def load_operand(
    ptr, stride, rows, first, PARTS: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
    PIECES: tl.constexpr,
):  # fmt: skip
    """Read the columns from ``first`` on, a tuple of pieces for each part."""
    blocks = ()
    for i in tl.static_range(len(PARTS)):
        cols = first + PARTS[i][0] + tl.arange(0, PARTS[i][1])
        blocks += (_load_pieces(ptr, stride, rows, cols, D, N, PIECES),)
    return blocks


@triton.jit
def store_parts(ptr, rows, first, values, PARTS: tl.constexpr, D: tl.constexpr, N: tl.constexpr):
    """Write what ``load_parts`` reads."""
    for i in tl.static_range(len(PARTS)):
        cols = first + PARTS[i][0] + tl.arange(0, PARTS[i][1])
        store_block(ptr, rows, cols, values[i], D, N)


@triton.jit
def _zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    # A function of its own, as Triton 3.6 takes no plain int beside a constexpr in a shape.
    return tl.zeros([ROWS, COLUMNS], tl.float32)


@triton.jit
def zero_parts(ROWS: tl.constexpr, PARTS: tl.constexpr):
    """Return float32 zeros, a block for each part."""
    blocks = ()
    for i in tl.static_range(len(PARTS)):
        blocks += (_zeros(ROWS, PARTS[i][1]),)
    return blocks


@triton.jit
def scale_parts(parts, factors):
    """Return each row of ``parts`` times its factor."""
    blocks = ()
    for i in tl.static_range(len(parts)):
        blocks += (parts[i] * factors[:, None],)
    return blocks


@triton.jit
def add_products(a, parts, sums, PRECISION: tl.constexpr):
    """Return ``sums`` + A B, for A in pieces and B in parts of pieces."""
    blocks = ()
    for i in tl.static_range(len(parts)):
        blocks += (product(a, parts[i], sums[i], PRECISION),)
    return blocks


@triton.jit
def products(
    a, a_ptr, a_rows, b, b_ptr, b_rows, stride, PARTS: tl.constexpr, D: tl.constexpr,
    N: tl.constexpr, PIECES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return A B^T, summed over all N positions.

    ``a`` and ``b`` hold the columns of this program. Where these are not all, they are one part,
    and every block of columns is read in its turn.
    """
    acc = tl.zeros([a_rows.shape[0], b_rows.shape[0]], tl.float32)
    if PARTS[len(PARTS) - 1][0] + PARTS[len(PARTS) - 1][1] >= N:
        for i in tl.static_range(len(PARTS)):
            acc = product(a[i], transposed(b[i]), acc, PRECISION)
        return acc
    for first in tl.range(0, N, PARTS[0][1]):
        cols = first + tl.arange(0, PARTS[0][1])
        a_block = _load_pieces(a_ptr, stride, a_rows, cols, D, N, PIECES)
        b_block = _load_pieces(b_ptr, stride, b_rows, cols, D, N, PIECES)
        acc = product(a_block, transposed(b_block), acc, PRECISION)
    return acc
