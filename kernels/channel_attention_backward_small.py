"""The backward of the attention among channels for few positions, N <= 16, in one kernel.

With so few positions the exponentials and the arithmetic on scores take longest, not the products.
So every score is made once. A program takes a share of a sample's keys, and for each block of them
goes over all queries. d_K and d_V of the block are in registers. d_Q of all queries is a sum in
float32, in memory that belongs to this program alone, which it reads and writes again for each
block. A second kernel adds up the sums of a sample's programs, in a fixed order. Nothing is atomic.

A product over N positions takes 16 columns of the matrix unit, however few N is. The columns left
over take work off the scores: where a key has a 1, its query has a piece of -lse, and the gradient
of the query's output a piece of -delta (delta = rowsum(dO O)), so that the matrix unit subtracts
both. Up to N = 4 there is room for the log2(e) that exp2 wants, too: the key is there three times,
the query once, and (log2(e) - 1) times the query in two pieces. In float16, whose range delta may
exceed, no column is used so.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import LOG2E, load_block, store_block
from ltvr.kernels.launch import (
    Launch,
    capability,
    divide_up,
    dot_precision,
    kept,
    multiprocessors,
    padded,
)

__all__ = ["MOST_POSITIONS", "channel_attention_backward_small"]

MOST_POSITIONS = 16
"""Beyond so many, reading and writing d_Q's sum takes longer than making the scores twice."""

_COLUMNS = 16
"""Of a product over positions: Triton 3.6 takes no fewer, even where exact products need fewer."""

_PIECES = tl.constexpr(3)  # hold a float32: 8 bits each in bfloat16, 11 in TF32


@triton.jit
def _head(x, dtype: tl.constexpr):
    """Return ``x`` (float32) rounded to what a product in ``dtype`` takes, as float32."""
    if dtype == tl.float32:  # the bits of TF32
        return (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return x.to(dtype).to(tl.float32)


@triton.jit
def _put_pieces(x, value, cols, FIRST: tl.constexpr, dtype: tl.constexpr):
    """Put the rows' ``value`` into the columns of ``x`` from FIRST on, in pieces that add up."""
    for i in tl.static_range(_PIECES):
        piece = _head(value, dtype)
        x = tl.where(cols[None, :] == FIRST + i, piece[:, None], x)
        value -= piece
    return x


@triton.jit
def _load_copies(ptr, rows, cols, D: tl.constexpr, N: tl.constexpr, COPIES: tl.constexpr):
    """Read rows of a sample, COPIES times beside each other, with zeros outside."""
    ptrs = ptr + rows[:, None] * N + (cols % N)[None, :]
    return tl.load(ptrs, mask=(rows[:, None] < D) & (cols[None, :] < COPIES * N), other=0.0)


@triton.jit
def _load_keys(ptr, rows, cols, D: tl.constexpr, N: tl.constexpr, COPIES: tl.constexpr):
    """Read keys or values, with ones where their queries have pieces."""
    x = _load_copies(ptr, rows, cols, D, N, COPIES)
    pieces = (cols >= COPIES * N) & (cols < COPIES * N + _PIECES)
    return tl.where(pieces[None, :], 1.0, x).to(ptr.dtype.element_ty)


@triton.jit
def _backward_kernel(
    d_out_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    wide_q_ptr,
    wide_d_out_ptr,
    statistics_ptr,
    d_q_sum_ptr,
    d_k_ptr,
    d_v_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    SPLITS: tl.constexpr,
    COPIES: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_SUM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    ROWS: tl.constexpr = (D + BLOCK_Q - 1) // BLOCK_Q * BLOCK_Q
    FIRST: tl.constexpr = COPIES * N  # column of the pieces
    program = tl.program_id(0).to(tl.int64)
    base = program // SPLITS * D * N
    d_out_ptr, q_ptr, k_ptr, out_ptr = d_out_ptr + base, q_ptr + base, k_ptr + base, out_ptr + base
    value_ptr = k_ptr if v_ptr is None else v_ptr + base
    lse_ptr += program // SPLITS * D
    d_q_sum_ptr += program * ROWS * STRIDE
    if statistics_ptr is None:
        wide_q_ptr += program * ROWS * BLOCK_N
        wide_d_out_ptr += program * ROWS * BLOCK_N
    else:
        statistics_ptr += program * 2 * ROWS
    cols = tl.arange(0, BLOCK_N)
    sum_cols = tl.arange(0, BLOCK_SUM)
    in_sum = sum_cols[None, :] < STRIDE
    for start in tl.range(0, D, BLOCK_Q):
        rows = start + tl.arange(0, BLOCK_Q)
        # [BLOCK_Q, BLOCK_N]
        d_out = load_block(d_out_ptr, rows, cols, D, N).to(tl.float32)
        out = load_block(out_ptr, rows, cols, D, N)
        # [BLOCK_Q]
        minus_delta = -tl.sum(d_out * out, 1)
        minus_lse = -tl.load(lse_ptr + rows, mask=rows < D, other=0.0)
        if statistics_ptr is None:
            q = _load_copies(q_ptr, rows, cols, D, N, COPIES).to(tl.float32)
            if COPIES == 3:
                minus_lse *= LOG2E
                rest = q * (LOG2E - 1.0)
                head = _head(rest, dtype)
                part = cols[None, :] // N
                q = tl.where(part == 0, q, tl.where(part == 1, head, rest - head))
            q = _put_pieces(q, minus_lse, cols, FIRST, dtype)
            d_out = _put_pieces(d_out, minus_delta, cols, FIRST, dtype)
            at = rows[:, None] * BLOCK_N + cols[None, :]
            tl.store(wide_q_ptr + at, q.to(dtype))
            tl.store(wide_d_out_ptr + at, d_out.to(dtype))
        else:
            tl.store(statistics_ptr + rows, minus_lse * LOG2E)
            tl.store(statistics_ptr + ROWS + rows, minus_delta)
        at = rows[:, None] * STRIDE + sum_cols[None, :]
        tl.store(d_q_sum_ptr + at, tl.zeros([BLOCK_Q, BLOCK_SUM], tl.float32), mask=in_sum)
    # Threads read what others of this program wrote: here, and in d_Q's sum after each round.
    tl.debug_barrier()
    blocks: tl.constexpr = (D + BLOCK_K - 1) // BLOCK_K
    share: tl.constexpr = (blocks + SPLITS - 1) // SPLITS * BLOCK_K
    first_key = tl.program_id(0) % SPLITS * share
    for key in tl.range(first_key, tl.minimum(first_key + share, D), BLOCK_K):
        keys = key + tl.arange(0, BLOCK_K)
        # [BLOCK_K, BLOCK_N]
        if statistics_ptr is None:
            k = _load_keys(k_ptr, keys, cols, D, N, COPIES)
            v = k if v_ptr is None else _load_keys(value_ptr, keys, cols, D, N, COPIES)
        else:
            k = load_block(k_ptr, keys, cols, D, N)
            v = k if v_ptr is None else load_block(value_ptr, keys, cols, D, N)
        # [BLOCK_K, BLOCK_SUM]
        bare_k = load_block(k_ptr, keys, sum_cols, D, N)
        d_k = tl.zeros([BLOCK_K, BLOCK_N], tl.float32)
        d_v = d_k  # zeros as well; used only where there is a V
        for start in tl.range(0, D, BLOCK_Q):
            rows = start + tl.arange(0, BLOCK_Q)
            # [BLOCK_K, BLOCK_Q]: made transposed, as the products for d_k and d_v take it. Rows
            # and keys outside the sample add nothing: there q, d_out, delta and bare_k are 0.
            if statistics_ptr is None:
                at = rows[:, None] * BLOCK_N + cols[None, :]
                q = tl.load(wide_q_ptr + at)
                d_out = tl.load(wide_d_out_ptr + at)
                scores = tl.dot(k, tl.trans(q), input_precision=PRECISION)
                if COPIES != 3:
                    scores *= LOG2E
                d_p = tl.dot(v, tl.trans(d_out), input_precision=PRECISION)
            else:
                q = load_block(q_ptr, rows, cols, D, N)
                d_out = load_block(d_out_ptr, rows, cols, D, N)
                minus_lse = tl.load(statistics_ptr + rows)
                minus_delta = tl.load(statistics_ptr + ROWS + rows)
                scores = tl.dot(k, tl.trans(q), input_precision=PRECISION)
                scores = scores * LOG2E + minus_lse[None, :]
                d_p = tl.broadcast_to(minus_delta[None, :], [BLOCK_K, BLOCK_Q])
                d_p = tl.dot(v, tl.trans(d_out), d_p, input_precision=PRECISION)
            # No score exceeds its row's lse, except by rounding: min keeps exp2 from overflowing.
            p = tl.exp2(tl.minimum(scores, 0.0))
            d_scores = (p * d_p).to(dtype)
            d_k = tl.dot(d_scores, q, d_k, input_precision=PRECISION)
            if v_ptr is None:
                d_k = tl.dot(p.to(dtype), d_out, d_k, input_precision=PRECISION)
            else:
                d_v = tl.dot(p.to(dtype), d_out, d_v, input_precision=PRECISION)
            # [BLOCK_Q, BLOCK_SUM]
            at = rows[:, None] * STRIDE + sum_cols[None, :]
            d_q = tl.load(d_q_sum_ptr + at, mask=in_sum, other=0.0)
            d_q = tl.dot(tl.trans(d_scores), bare_k, d_q, input_precision=PRECISION)
            tl.store(d_q_sum_ptr + at, d_q, mask=in_sum)
        tl.debug_barrier()
        store_block(d_k_ptr + base, keys, cols, d_k, D, N)
        if v_ptr is not None:
            store_block(d_v_ptr + base, keys, cols, d_v, D, N)


@triton.jit
def _sum_kernel(
    d_q_sum_ptr,
    d_q_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    SPLITS: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    blocks: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    size: tl.constexpr = blocks * BLOCK_D * STRIDE  # of the sum of one program
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    d_q_sum_ptr += sample * SPLITS * size
    rows = tl.program_id(0) % blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    # [BLOCK_D, BLOCK_N]
    d_q = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    for split in tl.static_range(SPLITS):
        at = split * size + rows[:, None] * STRIDE + cols[None, :]
        d_q += tl.load(d_q_sum_ptr + at, mask=cols[None, :] < N, other=0.0)
    store_block(d_q_ptr + sample * D * N, rows, cols, d_q, D, N)


class _Tile(NamedTuple):
    block_q: int
    block_k: int
    warps: int = 4
    stages: int = 1


def _pick_tile(channels: int, positions: int, precision: str, capability: int, own: bool) -> _Tile:
    """Return the tile for a shape, chosen by what the compiler reports.

    Registers do not spill, no warps do the same work twice, and of such tiles it is the one that
    issues fewest instructions a score.

    Args:
        channels, positions, precision, capability: as of ``pick_tiles``.
        own: whether there are values beside the keys, which take registers of their own.
    """
    # Ampere, Ada and consumer Blackwell take the operands of a product from registers.
    operands_in_registers = capability < 90 or capability >= 120
    if precision == "half":
        many = operands_in_registers and positions > 8
        # On sm_100 fetching blocks ahead takes more instructions than it saves.
        stages = 1 if many or 100 <= capability < 120 else 2
        tile = _Tile(64, 64 if many and own else 128, stages=stages)
    elif precision == "tf32":
        tile = _Tile(32 if operands_in_registers and own else 64, 64)
    elif precision == "tf32x3":
        tile = _Tile(32, 64)
    else:
        tile = _Tile(32, 32) if positions <= 8 else _Tile(32, 64, warps=8)
    most = padded(channels, at_least=16)
    return tile._replace(block_q=min(tile.block_q, most), block_k=min(tile.block_k, most))


def _splits(batch: int, blocks: int, x: Tensor) -> int:
    """Return how many programs share the keys of a sample, which are so many blocks.

    It is the number that is done first if the multiprocessors share the programs evenly, each needs
    two to be busy, and a program takes the time of a third of a block before its first one.
    """
    shared_by = multiprocessors(x.device)

    def time(splits: int) -> float:
        programs = max(2, divide_up(batch * splits, shared_by))
        taken: float = programs * (divide_up(blocks, splits) + 1 / 3)
        return taken

    return min((1 << power for power in range(blocks.bit_length())), key=time)


class _Plan(NamedTuple):
    """How the keys of a batch are shared out, and the two kernels."""

    programs: int
    rows: int
    """Of d_Q's sum of one program."""
    wide: bool
    """Whether -lse and -delta are in columns of the products."""
    backward: Launch
    sum: Launch


@kept
def _plan(q: Tensor, own_values: bool) -> _Plan:
    batch, channels, positions = q.shape
    precision = dot_precision(q)
    kind = precision if q.dtype == torch.float32 else "half"
    tile = _pick_tile(channels, positions, kind, capability(q), own_values)
    splits = _splits(batch, divide_up(channels, tile.block_k), q)
    columns = 0 if q.dtype == torch.float16 else _COLUMNS
    copies = 3 if 3 * positions + 3 <= columns else 1
    common = {
        "D": channels,
        "N": positions,
        "SPLITS": splits,
        "STRIDE": padded(positions, at_least=4),
        "enable_fp_fusion": True,
    }
    backward = Launch(
        _backward_kernel,
        **common,
        COPIES=copies,
        BLOCK_Q=tile.block_q,
        BLOCK_K=tile.block_k,
        BLOCK_N=_COLUMNS,
        BLOCK_SUM=padded(positions, at_least=8),
        PRECISION=precision,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    total = Launch(
        _sum_kernel, **common, BLOCK_D=tile.block_q, BLOCK_N=common["STRIDE"], num_warps=4
    )
    rows = divide_up(channels, tile.block_q) * tile.block_q
    return _Plan(batch * splits, rows, copies * positions + 3 <= columns, backward, total)


def channel_attention_backward_small(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor | None, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """d_q, d_k and d_v (``channel_attention_backward.py``) of contiguous tensors with N <= 16.

    The same shape on the same kind of GPU gives the same bits.
    """
    plan = _plan(q, v is not None)
    blocks = plan.backward.constants
    wide_q = wide_d_out = statistics = None
    if plan.wide:
        wide_q = q.new_empty(plan.programs, plan.rows, blocks["BLOCK_N"])
        wide_d_out = torch.empty_like(wide_q)
    else:
        statistics = lse.new_empty(plan.programs, 2, plan.rows)
    d_q_sum = lse.new_empty(plan.programs, plan.rows, blocks["STRIDE"])
    d_q, d_k = torch.empty_like(q), torch.empty_like(k)
    d_v = None if v is None else torch.empty_like(v)
    plan.backward(
        (plan.programs,),
        d_out_ptr=d_out,
        q_ptr=q,
        k_ptr=k,
        v_ptr=v,
        out_ptr=out,
        lse_ptr=lse,
        wide_q_ptr=wide_q,
        wide_d_out_ptr=wide_d_out,
        statistics_ptr=statistics,
        d_q_sum_ptr=d_q_sum,
        d_k_ptr=d_k,
        d_v_ptr=d_v,
    )
    plan.sum(
        (q.shape[0] * plan.rows // blocks["BLOCK_Q"],),
        d_q_sum_ptr=d_q_sum,
        d_q_ptr=d_q,
    )
    return d_q, d_k, d_v
