"""The backward of the attention among the D channels of a sample (``channel_attention.py``).

It is two kernels, so that every gradient has one writer and needs no atomic additions. One runs
over blocks of queries and makes d_Q, and delta = rowsum(dO O) for the other. The other runs over
blocks of keys and makes d_K and d_V; without V one accumulator takes both,
d_K = dS^T Q + P^T dO. Both make P = exp(S - lse) again. Few positions have a kernel of their own,
which makes it once (``channel_attention_backward_small.py``).
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
    load_parts,
    place_rows,
    products,
    store_parts,
    zero_parts,
)
from ltvr.kernels.channel_attention_backward_small import (
    MOST_POSITIONS,
    channel_attention_backward_small,
)
from ltvr.kernels.launch import check_dtype
from ltvr.kernels.pieces import in_pieces, split, whole
from ltvr.kernels.tiles import launch_attention, pieces_of, tiles_of

__all__ = ["channel_attention_backward"]


@triton.jit
def _d_query_kernel(
    d_out_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    delta_ptr,
    d_q_ptr,
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
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    d_out_ptr, q_ptr, k_ptr, out_ptr = d_out_ptr + base, q_ptr + base, k_ptr + base, out_ptr + base
    value_ptr = k_ptr if v_ptr is None else v_ptr + base
    # [BLOCK_Q, columns] in parts
    q = load_operand(q_ptr, stride, rows, first, PARTS, D, N, PIECES)
    d_out = load_operand(d_out_ptr, stride, rows, first, PARTS, D, N, PIECES)
    # [BLOCK_Q]
    lse = tl.load(lse_ptr + row_base + rows, mask=rows < D, other=0.0) * LOG2E
    delta = tl.zeros([BLOCK_Q], tl.float32)
    for start in tl.static_range(0, N, PARTS[len(PARTS) - 1][0] + PARTS[len(PARTS) - 1][1]):
        # [BLOCK_Q, columns] in parts
        out = load_parts(out_ptr, rows, start, PARTS, D, N)
        its_gradient = load_operand(d_out_ptr, stride, rows, start, PARTS, D, N, PIECES)
        for i in tl.static_range(len(PARTS)):
            delta += tl.sum(out[i].to(tl.float32) * whole(its_gradient[i]), 1)
    tl.store(delta_ptr + row_base + rows, delta, mask=rows < D)
    acc = zero_parts(BLOCK_Q, PARTS)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, columns] in parts
        k = load_operand(k_ptr, stride, keys, first, PARTS, D, N, PIECES)
        v = k
        if v_ptr is not None:
            v = load_operand(value_ptr, stride, keys, first, PARTS, D, N, PIECES)
        # [BLOCK_Q, BLOCK_K]
        scores = products(q, q_ptr, rows, k, k_ptr, keys, stride, PARTS, D, N, PIECES, PRECISION)
        # No score exceeds its row's lse, except by rounding: min keeps exp2 from overflowing.
        p = tl.exp2(tl.minimum(scores * LOG2E - lse[:, None], 0.0))
        if D % BLOCK_K != 0:  # keys outside the sample take no part
            p = tl.where(keys[None, :] < D, p, 0.0)
        d_p = products(
            d_out, d_out_ptr, rows, v, value_ptr, keys, stride, PARTS, D, N, PIECES, PRECISION
        )
        d_scores = p * (d_p - delta[:, None])
        acc = add_products(split(d_scores, dtype, PIECES), k, acc, PRECISION)
    store_parts(d_q_ptr + base, rows, first, acc, PARTS, D, N)


@triton.jit
def _d_key_kernel(
    d_out_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    lse_ptr,
    delta_ptr,
    d_k_ptr,
    d_v_ptr,
    stride,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    PIECES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    base, row_base, keys = place_rows(D, N, BLOCK_K)
    first = first_column(N, PARTS)
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    d_out_ptr, q_ptr, k_ptr = d_out_ptr + base, q_ptr + base, k_ptr + base
    value_ptr = k_ptr if v_ptr is None else v_ptr + base
    # [BLOCK_K, columns] in parts
    k = load_operand(k_ptr, stride, keys, first, PARTS, D, N, PIECES)
    v = k
    if v_ptr is not None:
        v = load_operand(value_ptr, stride, keys, first, PARTS, D, N, PIECES)
    d_k = zero_parts(BLOCK_K, PARTS)
    d_v = d_k  # zeros as well; used only where there is a V
    for start in tl.range(0, D, BLOCK_Q):
        rows = start + tl.arange(0, BLOCK_Q)
        # [BLOCK_Q, columns] in parts. Rows outside the sample add nothing: q and d_out are 0 there.
        q = load_operand(q_ptr, stride, rows, first, PARTS, D, N, PIECES)
        d_out = load_operand(d_out_ptr, stride, rows, first, PARTS, D, N, PIECES)
        # [BLOCK_Q]
        if D % BLOCK_Q == 0:
            lse = tl.load(lse_ptr + row_base + rows) * LOG2E
            delta = tl.load(delta_ptr + row_base + rows)
        else:
            lse = tl.load(lse_ptr + row_base + rows, mask=rows < D, other=0.0) * LOG2E
            delta = tl.load(delta_ptr + row_base + rows, mask=rows < D, other=0.0)
        # [BLOCK_K, BLOCK_Q]: made transposed, as the products for d_k and d_v below take it.
        scores = products(k, k_ptr, keys, q, q_ptr, rows, stride, PARTS, D, N, PIECES, PRECISION)
        # No score exceeds its row's lse, except by rounding: min keeps exp2 from overflowing.
        p = tl.exp2(tl.minimum(scores * LOG2E - lse[None, :], 0.0))
        d_p = products(
            v, value_ptr, keys, d_out, d_out_ptr, rows, stride, PARTS, D, N, PIECES, PRECISION
        )
        d_scores = p * (d_p - delta[None, :])
        d_k = add_products(split(d_scores, dtype, PIECES), q, d_k, PRECISION)
        if v_ptr is None:
            d_k = add_products(split(p, dtype, PIECES), d_out, d_k, PRECISION)
        else:
            d_v = add_products(split(p, dtype, PIECES), d_out, d_v, PRECISION)
    store_parts(d_k_ptr + base, keys, first, d_k, PARTS, D, N)
    if v_ptr is not None:
        store_parts(d_v_ptr + base, keys, first, d_v, PARTS, D, N)


def channel_attention_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor | None, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """d_q, d_k and d_v; without v, d_k holds the gradient of keys and values, and d_v is empty."""
    check_dtype(q)
    d_out, q, k, out, lse = (t.contiguous() for t in (d_out, q, k, out, lse))
    v = None if v is None else v.contiguous()
    if q.shape[2] <= MOST_POSITIONS:
        d_q, d_k, d_v = channel_attention_backward_small(d_out, q, k, v, out, lse)
        return d_q, d_k, k.new_empty(0) if d_v is None else d_v
    d_q, d_k, delta = torch.empty_like(q), torch.empty_like(k), torch.empty_like(lse)
    d_v = None if v is None else torch.empty_like(v)
    tiles = tiles_of(q)
    q_pieces, k_pieces, d_out_pieces = (in_pieces(t, pieces_of(q)) for t in (q, k, d_out))
    v_pieces = None if v is None else in_pieces(v, pieces_of(q))
    # In this order: the first leaves delta for the second.
    launch_attention(
        _d_query_kernel,
        "BLOCK_Q",
        tiles.d_query,
        q,
        d_out_ptr=d_out_pieces,
        q_ptr=q_pieces,
        k_ptr=k_pieces,
        v_ptr=v_pieces,
        out_ptr=out,
        lse_ptr=lse,
        delta_ptr=delta,
        d_q_ptr=d_q,
    )
    launch_attention(
        _d_key_kernel,
        "BLOCK_K",
        tiles.d_key,
        q,
        d_out_ptr=d_out_pieces,
        q_ptr=q_pieces,
        k_ptr=k_pieces,
        v_ptr=v_pieces,
        lse_ptr=lse,
        delta_ptr=delta,
        d_k_ptr=d_k,
        d_v_ptr=d_v,
    )
    return d_q, d_k, k.new_empty(0) if d_v is None else d_v
