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
    load_parts,
    place_rows,
    products,
    scale_parts,
    store_parts,
    zero_parts,
)
from ltvr.kernels.launch import check_dtype
from ltvr.kernels.tiles import launch_attention, tiles_of

__all__ = ["channel_attention"]


@triton.jit
def _forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    base, row_base, rows = place_rows(D, N, BLOCK_Q)
    first = first_column(N, PARTS)
    q_ptr, k_ptr = q_ptr + base, k_ptr + base
    # [BLOCK_Q, columns] in parts
    q = load_parts(q_ptr, rows, first, PARTS, D, N)
    row_max = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_Q], tl.float32)
    acc = zero_parts(BLOCK_Q, PARTS)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, columns] in parts
        k = load_parts(k_ptr, keys, first, PARTS, D, N)
        # [BLOCK_Q, BLOCK_K]
        scores = products(q, q_ptr, rows, k, k_ptr, keys, PARTS, D, N, PRECISION)
        if D % BLOCK_K != 0:
            scores = tl.where(keys[None, :] < D, scores, float("-inf"))
        # The statistics are those of LOG2E * scores: exp2(LOG2E * scores - max) takes one
        # multiply-add and one exp2.
        new_max = tl.maximum(row_max, tl.max(scores, 1) * LOG2E)
        p = tl.exp2(scores * LOG2E - new_max[:, None])
        rescale = tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(p, 1)
        acc = scale_parts(acc, rescale)
        v = k if v_ptr is None else load_parts(v_ptr + base, keys, first, PARTS, D, N)
        acc = add_products(p.to(v[0].dtype), v, acc, PRECISION)
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
    launch_attention(
        _forward_kernel,
        "BLOCK_Q",
        tiles_of(q).forward,
        q,
        q_ptr=q,
        k_ptr=k,
        v_ptr=v,
        out_ptr=out,
        lse_ptr=lse,
    )
    return out, lse
