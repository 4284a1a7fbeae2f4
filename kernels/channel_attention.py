"""Attention among the D channels of a sample: softmax(Q K^T) V.

The schemas are in ``ltvr/afa/ops.py``, equation 1 is in ``ltvr/afa/reference.py``. Without V the
keys are also the values: one load serves both products. The D x D scores S are never written to
memory: BLOCK_Q x BLOCK_K of them at a time are in registers. A program makes BLOCK_N columns of its
result. These are all N where they fit the registers; else several programs share the columns, and
each makes the scores again.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import LOG2E, load_block, place, products, store_block
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
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    base, row_base, rows, cols = place(D, N, BLOCK_Q, BLOCK_N)
    q_ptr, k_ptr = q_ptr + base, k_ptr + base
    # [BLOCK_Q, BLOCK_N]
    q = load_block(q_ptr, rows, cols, D, N)
    row_max = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_Q], tl.float32)
    acc = tl.zeros([BLOCK_Q, BLOCK_N], tl.float32)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, BLOCK_N]
        k = load_block(k_ptr, keys, cols, D, N)
        # [BLOCK_Q, BLOCK_K]
        scores = products(q, q_ptr, rows, k, k_ptr, keys, D, N, PRECISION)
        if D % BLOCK_K != 0:
            scores = tl.where(keys[None, :] < D, scores, float("-inf"))
        # The statistics are those of LOG2E * scores: exp2(LOG2E * scores - max) takes one
        # multiply-add and one exp2.
        new_max = tl.maximum(row_max, tl.max(scores, 1) * LOG2E)
        p = tl.exp2(scores * LOG2E - new_max[:, None])
        rescale = tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(p, 1)
        acc *= rescale[:, None]
        v = k if v_ptr is None else load_block(v_ptr + base, keys, cols, D, N)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
        row_max = new_max
    store_block(out_ptr + base, rows, cols, acc / row_sum[:, None], D, N)
    tl.store(lse_ptr + row_base + rows, (row_max + tl.log2(row_sum)) / LOG2E, mask=rows < D)


def channel_attention(q: Tensor, k: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax(q k^T) v [B, D, N] and the log-sum-exp of each row of scores [B, D]."""
    check_dtype(q)
    q, k, v = q.contiguous(), k.contiguous(), None if v is None else v.contiguous()
    out = torch.empty_like(k)
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
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
