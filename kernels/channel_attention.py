"""Attention among the D channels of a sample: softmax(Q K^T) V, forward and backward.

Schemas in ``ltvr/ops.py``, equation 1 in ``ltvr/reference.py``. Without V the keys are the values:
one load serves both products, and in the backward one accumulator takes both gradients,
d_K = dS^T Q + P^T dO. The D x D scores live in registers, BLOCK_Q x BLOCK_K at a time.

The backward is two kernels, so that every gradient has one writer and no atomics are needed: one
over blocks of queries (d_Q, and delta = rowsum(dO O) for the other), one over blocks of keys (d_K,
d_V). Both make P = exp(S - lse) again.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import LOG2E, load_block, store_block
from ltvr.kernels.launch import AUTOTUNE, capability, check_dtype, dot_precision, padded

__all__ = ["channel_attention", "channel_attention_backward"]


@triton.jit
def _sample_and_rows(D: tl.constexpr, BLOCK: tl.constexpr):
    """Sample and rows of this program; the blocks of a sample run together and share its L2."""
    blocks: tl.constexpr = (D + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    return (pid // blocks).to(tl.int64), pid % blocks * BLOCK + tl.arange(0, BLOCK)


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
    sample, rows = _sample_and_rows(D, BLOCK_Q)
    base = sample * D * N
    cols = tl.arange(0, BLOCK_N)
    # [BLOCK_Q, BLOCK_N]
    q = load_block(q_ptr + base, rows, cols, D, N)
    row_max = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_Q], tl.float32)
    acc = tl.zeros([BLOCK_Q, BLOCK_N], tl.float32)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, BLOCK_N]
        k = load_block(k_ptr + base, keys, cols, D, N)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if D % BLOCK_K != 0:
            scores = tl.where(keys[None, :] < D, scores, float("-inf"))
        # Statistics in units of log 2: exp2(LOG2E scores - max) is one multiply-add and one exp2.
        new_max = tl.maximum(row_max, tl.max(scores, 1) * LOG2E)
        p = tl.exp2(scores * LOG2E - new_max[:, None])
        rescale = tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.sum(p, 1)
        acc *= rescale[:, None]
        v = k if v_ptr is None else load_block(v_ptr + base, keys, cols, D, N)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
        row_max = new_max
    store_block(out_ptr + base, rows, cols, acc / row_sum[:, None], D, N)
    lse = (row_max + tl.log2(row_sum)) / LOG2E
    tl.store(lse_ptr + sample * D + rows, lse, mask=rows < D)


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
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    sample, rows = _sample_and_rows(D, BLOCK_Q)
    base = sample * D * N
    cols = tl.arange(0, BLOCK_N)
    # [BLOCK_Q, BLOCK_N]
    q = load_block(q_ptr + base, rows, cols, D, N)
    d_out = load_block(d_out_ptr + base, rows, cols, D, N)
    out = load_block(out_ptr + base, rows, cols, D, N)
    # [BLOCK_Q]
    lse = tl.load(lse_ptr + sample * D + rows, mask=rows < D, other=0.0) * LOG2E
    delta = tl.sum(d_out.to(tl.float32) * out.to(tl.float32), 1)
    tl.store(delta_ptr + sample * D + rows, delta, mask=rows < D)
    acc = tl.zeros([BLOCK_Q, BLOCK_N], tl.float32)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, BLOCK_N]
        k = load_block(k_ptr + base, keys, cols, D, N)
        v = k if v_ptr is None else load_block(v_ptr + base, keys, cols, D, N)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        p = tl.exp2(scores * LOG2E - lse[:, None])
        if D % BLOCK_K != 0:  # a score of 0 outside the sample may overflow: 0 * inf is NaN
            p = tl.where(keys[None, :] < D, p, 0.0)
        d_p = tl.dot(d_out, tl.trans(v), input_precision=PRECISION)
        d_scores = p * (d_p - delta[:, None])
        acc = tl.dot(d_scores.to(k.dtype), k, acc, input_precision=PRECISION)
    store_block(d_q_ptr + base, rows, cols, acc, D, N)


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
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    sample, keys = _sample_and_rows(D, BLOCK_K)
    base = sample * D * N
    cols = tl.arange(0, BLOCK_N)
    # [BLOCK_K, BLOCK_N]
    k = load_block(k_ptr + base, keys, cols, D, N)
    v = k if v_ptr is None else load_block(v_ptr + base, keys, cols, D, N)
    d_k = tl.zeros([BLOCK_K, BLOCK_N], tl.float32)
    d_v = d_k  # of its own only where V is
    for start in tl.range(0, D, BLOCK_Q):
        rows = start + tl.arange(0, BLOCK_Q)
        # [BLOCK_Q, BLOCK_N]; zero rows outside the sample add nothing to either gradient
        q = load_block(q_ptr + base, rows, cols, D, N)
        d_out = load_block(d_out_ptr + base, rows, cols, D, N)
        # [BLOCK_Q]
        if D % BLOCK_Q == 0:
            lse = tl.load(lse_ptr + sample * D + rows) * LOG2E
            delta = tl.load(delta_ptr + sample * D + rows)
        else:
            lse = tl.load(lse_ptr + sample * D + rows, mask=rows < D, other=0.0) * LOG2E
            delta = tl.load(delta_ptr + sample * D + rows, mask=rows < D, other=0.0)
        # Transposed, [BLOCK_K, BLOCK_Q]: both products below then read it row by row.
        scores = tl.dot(k, tl.trans(q), input_precision=PRECISION)
        p = tl.exp2(scores * LOG2E - lse[None, :])
        d_p = tl.dot(v, tl.trans(d_out), input_precision=PRECISION)
        d_scores = p * (d_p - delta[None, :])
        d_k = tl.dot(d_scores.to(q.dtype), q, d_k, input_precision=PRECISION)
        if v_ptr is None:
            d_k = tl.dot(p.to(q.dtype), d_out, d_k, input_precision=PRECISION)
        else:
            d_v = tl.dot(p.to(q.dtype), d_out, d_v, input_precision=PRECISION)
    store_block(d_k_ptr + base, keys, cols, d_k, D, N)
    if v_ptr is not None:
        store_block(d_v_ptr + base, keys, cols, d_v, D, N)


class Tile(NamedTuple):
    """Block sizes of queries and keys, warps, pipeline stages."""

    block_q: int
    block_k: int
    warps: int
    stages: int


def forward_tile(x: Tensor, capability: int) -> Tile:
    return Tile(64, 32, 4, 2)


def d_query_tile(x: Tensor, capability: int) -> Tile:
    return Tile(64, 32, 4, 2)


def d_key_tile(x: Tensor, capability: int) -> Tile:
    return Tile(64, 32, 4, 2)


def _launch(kernel: Any, blocked: str, tile: Tile, x: Tensor, *arguments: Tensor | None) -> None:
    """Run ``kernel`` on every sample and every block of its ``blocked`` dimension."""
    batch, channels, positions = x.shape
    block_n = padded(positions, at_least=16)
    most = padded(channels, at_least=16)
    sizes: dict[str, Any] = {
        "BLOCK_Q": min(tile.block_q, most),
        "BLOCK_K": min(tile.block_k, most),
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
    if AUTOTUNE:
        kernel, sizes = _tuned(kernel), {}

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (batch * triton.cdiv(channels, meta[blocked]),)

    with torch.cuda.device_of(x):
        kernel[grid](
            *arguments,
            channels,
            positions,
            BLOCK_N=block_n,
            PRECISION=dot_precision(x),
            enable_fp_fusion=True,
            **sizes,
        )


@functools.cache
def _tuned(kernel: Any) -> Any:
    """``kernel`` with its tile chosen by timing, once a shape; what does not fit is left out."""
    configs = [
        triton.Config({"BLOCK_Q": q, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
        for q, k in itertools.product((32, 64, 128), repeat=2)
        for warps, stages in ((4, 2), (4, 3), (8, 2), (8, 3))
    ]
    return triton.autotune(configs, key=["D", "N", "PRECISION"])(kernel)


def channel_attention(q: Tensor, k: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax(q k^T) v [B, D, N] and the log-sum-exp of each row of scores [B, D]."""
    check_dtype(q)
    q, k, v = q.contiguous(), k.contiguous(), None if v is None else v.contiguous()
    out = torch.empty_like(k)
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    tile = forward_tile(q, capability(q))
    _launch(_forward_kernel, "BLOCK_Q", tile, q, q, k, v, out, lse)
    return out, lse


def channel_attention_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor | None, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """d_q, d_k and d_v; without v, d_k holds the gradient of keys and values, and d_v is empty."""
    check_dtype(q)
    d_out, q, k, out, lse = (t.contiguous() for t in (d_out, q, k, out, lse))
    v = None if v is None else v.contiguous()
    d_q, d_k, delta = torch.empty_like(q), torch.empty_like(k), torch.empty_like(lse)
    d_v = None if v is None else torch.empty_like(v)
    gpu = capability(q)
    inputs = (d_out, q, k, v)
    # In this order: the first leaves delta for the second.
    _launch(_d_query_kernel, "BLOCK_Q", d_query_tile(q, gpu), q, *inputs, out, lse, delta, d_q)
    _launch(_d_key_kernel, "BLOCK_K", d_key_tile(q, gpu), q, *inputs, lse, delta, d_k, d_v)
    return d_q, d_k, k.new_empty(0) if d_v is None else d_v
