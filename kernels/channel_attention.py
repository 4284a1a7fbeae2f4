"""Attention among the D channels of a sample: softmax(Q K^T) V.

The schemas are in ``ltvr/afa/ops.py``, equation 1 is in ``ltvr/afa/reference.py``. Without V the
keys are also the values: one load serves both products. The D x D scores S are never written to
memory: BLOCK_Q x BLOCK_K of them at a time are in registers. A program makes all N columns of its
result, in PARTS, where they fit the registers; else several programs share the columns, and each
makes the scores again.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import (
    LOG2E,
    add_products,
    first_column,
    load_operand,
    place_rows,
    products,
    scale_parts,
    store_parts,
    zero_parts,
)
from ltvr.kernels.launch import check_dtype
from ltvr.kernels.pieces import in_pieces, split
from ltvr.kernels.tiles import launch_attention, pieces_of, tiles_of

__all__ = ["channel_attention"]


@triton.jit
def _forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    stride,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    PIECES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    base, row_base, rows = place_rows(D, N, BLOCK_Q)
    first = first_column(N, PARTS)
    q_ptr, k_ptr = q_ptr + base, k_ptr + base
    # [BLOCK_Q, columns] in parts of pieces
    q = load_operand(q_ptr, stride, rows, first, PARTS, D, N, PIECES)
    row_max = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_Q], tl.float32)
    acc = zero_parts(BLOCK_Q, PARTS)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, columns] in parts
        k = load_operand(k_ptr, stride, keys, first, PARTS, D, N, PIECES)
        # [BLOCK_Q, BLOCK_K]
        scores = products(q, q_ptr, rows, k, k_ptr, keys, stride, PARTS, D, N, PIECES, PRECISION)
        if D % BLOCK_K != 0:
            scores = tl.where(keys[None, :] < D, scores, float("-inf"))
        # The statistics are those of LOG2E * scores: exp2(LOG2E * scores - max) takes one
        # multiply-add and one exp2.
        new_max = tl.maximum(row_max, tl.max(scores, 1) * LOG2E)
        p = tl.exp2(scores * LOG2E - new_max[:, None])
        rescale = tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(p, 1)
        acc = scale_parts(acc, rescale)
        v = k
        if v_ptr is not None:
            v = load_operand(v_ptr + base, stride, keys, first, PARTS, D, N, PIECES)
        acc = add_products(split(p, q_ptr.dtype.element_ty, PIECES), v, acc, PRECISION)
        row_max = new_max
    out = scale_parts(acc, 1.0 / row_sum)
    store_parts(out_ptr + base, rows, first, out, PARTS, D, N)
    tl.store(lse_ptr + row_base + rows, (row_max + tl.log2(row_sum)) / LOG2E, mask=rows < D)


def channel_attention(q: Tensor, k: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax(q k^T) v [B, D, N] and the log-sum-exp of each row of scores [B, D]."""
    check_dtype(q)
    q, k, v = q.contiguous(), k.contiguous(), None if v is None else v.contiguous()
    out = torch.empty_like(k)
    lse = q.new_empty(q.shape[0], q.shape[1], dtype=torch.float32)
    pieces = pieces_of(q)
    launch_attention(
        _forward_kernel,
        "BLOCK_Q",
        tiles_of(q).forward,
        q,
        q_ptr=in_pieces(q, pieces),
        k_ptr=in_pieces(k, pieces),
        v_ptr=None if v is None else in_pieces(v, pieces),
        out_ptr=out,
        lse_ptr=lse,
    )
    return out, lse
