"""Attention among the D channels of a sample: softmax(Q K^T) V, forward and backward.

The schemas are in ``ltvr/afa/ops.py``, equation 1 is in ``ltvr/afa/reference.py``. Without V the
keys are also the values: one load serves both products, and in the backward one accumulator takes
both gradients, d_K = dS^T Q + P^T dO. The D x D scores S are never written to memory: BLOCK_Q x
BLOCK_K of them at a time are in registers. A program makes BLOCK_N columns of its result. These are
all N where they fit the registers; else several programs share the columns, and each makes the
scores again.

The backward is two kernels, so that every gradient has one writer and needs no atomic additions.
One runs over blocks of queries and makes d_Q, and delta = rowsum(dO O) for the other. The other
runs over blocks of keys and makes d_K and d_V. Both make P = exp(S - lse) again.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

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
def _place(D: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr):
    """Return what this program works on: offset of the sample, its index times D, rows, columns.

    Programs next to each other have blocks of the same sample, so that they find its keys in L2.
    """
    blocks: tl.constexpr = (D + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    sample = (pid // blocks).to(tl.int64)
    rows = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    return sample * D * N, sample * D, rows, cols


@triton.jit
def _products(
    a, a_ptr, a_rows, b, b_ptr, b_rows, D: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """Return A B^T, summed over all N positions.

    ``a`` and ``b`` hold the columns of this program. Where these are not all, every block of
    columns is read in its turn.
    """
    if a.shape[1] >= N:
        return tl.dot(a, tl.trans(b), input_precision=PRECISION)
    acc = tl.zeros([a.shape[0], b.shape[0]], tl.float32)
    for first in tl.range(0, N, a.shape[1]):
        cols = first + tl.arange(0, a.shape[1])
        a = load_block(a_ptr, a_rows, cols, D, N)
        b = load_block(b_ptr, b_rows, cols, D, N)
        acc = tl.dot(a, tl.trans(b), acc, input_precision=PRECISION)
    return acc


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
    base, row_base, rows, cols = _place(D, N, BLOCK_Q, BLOCK_N)
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
        scores = _products(q, q_ptr, rows, k, k_ptr, keys, D, N, PRECISION)
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
    base, row_base, rows, cols = _place(D, N, BLOCK_Q, BLOCK_N)
    d_out_ptr, q_ptr, k_ptr, out_ptr = d_out_ptr + base, q_ptr + base, k_ptr + base, out_ptr + base
    value_ptr = k_ptr if v_ptr is None else v_ptr + base
    # [BLOCK_Q, BLOCK_N]
    q = load_block(q_ptr, rows, cols, D, N)
    d_out = load_block(d_out_ptr, rows, cols, D, N)
    # [BLOCK_Q]
    lse = tl.load(lse_ptr + row_base + rows, mask=rows < D, other=0.0) * LOG2E
    delta = tl.zeros([BLOCK_Q], tl.float32)
    for first in tl.static_range(0, N, BLOCK_N):
        # [BLOCK_Q, BLOCK_N]
        some = first + tl.arange(0, BLOCK_N)
        out = load_block(out_ptr, rows, some, D, N).to(tl.float32)
        delta += tl.sum(out * load_block(d_out_ptr, rows, some, D, N), 1)
    tl.store(delta_ptr + row_base + rows, delta, mask=rows < D)
    acc = tl.zeros([BLOCK_Q, BLOCK_N], tl.float32)
    for start in tl.range(0, D, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        # [BLOCK_K, BLOCK_N]
        k = load_block(k_ptr, keys, cols, D, N)
        v = k if v_ptr is None else load_block(value_ptr, keys, cols, D, N)
        # [BLOCK_Q, BLOCK_K]
        scores = _products(q, q_ptr, rows, k, k_ptr, keys, D, N, PRECISION)
        # No score exceeds its row's lse, except by rounding: min keeps exp2 from overflowing.
        p = tl.exp2(tl.minimum(scores * LOG2E - lse[:, None], 0.0))
        if D % BLOCK_K != 0:  # keys outside the sample take no part
            p = tl.where(keys[None, :] < D, p, 0.0)
        d_p = _products(d_out, d_out_ptr, rows, v, value_ptr, keys, D, N, PRECISION)
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
    base, row_base, keys, cols = _place(D, N, BLOCK_K, BLOCK_N)
    d_out_ptr, q_ptr, k_ptr = d_out_ptr + base, q_ptr + base, k_ptr + base
    value_ptr = k_ptr if v_ptr is None else v_ptr + base
    # [BLOCK_K, BLOCK_N]
    k = load_block(k_ptr, keys, cols, D, N)
    v = k if v_ptr is None else load_block(value_ptr, keys, cols, D, N)
    d_k = tl.zeros([BLOCK_K, BLOCK_N], tl.float32)
    d_v = d_k  # zeros as well; used only where there is a V
    for start in tl.range(0, D, BLOCK_Q):
        rows = start + tl.arange(0, BLOCK_Q)
        # [BLOCK_Q, BLOCK_N]. Rows outside the sample add nothing: q and d_out are 0 there.
        q = load_block(q_ptr, rows, cols, D, N)
        d_out = load_block(d_out_ptr, rows, cols, D, N)
        # [BLOCK_Q]
        if D % BLOCK_Q == 0:
            lse = tl.load(lse_ptr + row_base + rows) * LOG2E
            delta = tl.load(delta_ptr + row_base + rows)
        else:
            lse = tl.load(lse_ptr + row_base + rows, mask=rows < D, other=0.0) * LOG2E
            delta = tl.load(delta_ptr + row_base + rows, mask=rows < D, other=0.0)
        # [BLOCK_K, BLOCK_Q]: made transposed, as the products for d_k and d_v below take it.
        scores = _products(k, k_ptr, keys, q, q_ptr, rows, D, N, PRECISION)
        # No score exceeds its row's lse, except by rounding: min keeps exp2 from overflowing.
        p = tl.exp2(tl.minimum(scores * LOG2E - lse[None, :], 0.0))
        d_p = _products(v, value_ptr, keys, d_out, d_out_ptr, rows, D, N, PRECISION)
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
    """How a kernel divides its work: queries, keys and positions of a block, warps, stages.

    ``stages`` is how many blocks are on their way from memory at a time.
    """

    block_q: int
    block_k: int
    block_n: int
    warps: int
    stages: int


class Tiles(NamedTuple):
    forward: Tile
    d_query: Tile
    d_key: Tile


def pick_tiles(channels: int, positions: int, precision: str, capability: int) -> Tiles:
    """Return the tiles for a shape.

    They were chosen by what the compiler reports (``bench/kernel_report.py``): registers do not
    spill, and shared memory suffices.

    Args:
        channels, positions: D and N.
        precision: ``half`` (bfloat16, float16), ``tf32`` or ``ieee``.
        capability: of the GPU, as 80, 90 or 100.
    """
    n = padded(positions, at_least=16)
    hopper = 90 <= capability < 100
    if precision == "half" and n <= 64:
        # With so few positions the exponentials take longest. Small blocks let several programs run
        # on a multiprocessor, so that one computes products while another computes exponentials.
        # The forward has blocks of 128 queries, which halves how often keys are read; on sm_80,
        # where operands take registers as well, this needs eight warps.
        tiles = (128, 64, n, 4 if capability >= 90 else 8, 3), (64, 64, n, 4, 3), (64, 64, n, 4, 3)
    elif precision == "half" and n == 256 and hopper:
        # An accumulator of 256 columns takes half the registers. Each group of four warps computes
        # 64 rows of its own, 128 in all, so it is the other dimension of a block that is made
        # small, until the scores fit beside the accumulator.
        tiles = (128, 64, n, 8, 2), (128, 32, n, 8, 2), (32, 128, n, 8, 2)
    elif precision == "half":
        # Beyond 256 positions a program makes 128 columns of its result, and it sums the scores in
        # steps of 128 columns.
        n = n if n <= 256 else 128
        tiles = (64, 64, n, 8, 2), (64, 64, n, 8, 2), (64, 64, n, 8, 2)
    elif precision == "tf32":
        n = min(n, 256)
        if n <= 64:
            tiles = (64, 32, n, 4, 2), (64, 32, n, 4, 2), (32, 64, n, 8, 2)
        else:
            tiles = (32, 32, n, 8, 2), (32, 32, n, 8, 2), (32, 32, n, 8, 2)
    else:
        # Exact float32 does not run on the matrix units: a thread holds whole rows of its operands,
        # which limits them to 64 columns. On sm_100 64 queries in the forward spill 8 bytes.
        n = min(n, 64)
        forward = (64, 32, n, 8, 2) if capability < 100 else (32, 32, n, 4, 2)
        tiles = forward, (32, 32, n, 4, 2), (32, 32, n, 8, 2)
    most = padded(channels, at_least=16)
    return Tiles(*(Tile(min(q, most), min(k, most), *rest) for q, k, *rest in tiles))


def _tiles(x: Tensor) -> Tiles:
    precision = dot_precision(x) if x.dtype == torch.float32 else "half"
    return pick_tiles(x.shape[1], x.shape[2], precision, capability(x))


def _launch(kernel: Any, blocked: str, tile: Tile, x: Tensor, **pointers: Tensor | None) -> None:
    """Run ``kernel`` on every sample, block of its ``blocked`` dimension, and block of columns.

    Args:
        blocked: the kernel's name for the block that the grid divides the channels into.
        tile: sizes of the blocks.
        x: any of the tensors [B, D, N]: gives the shape, the dtype and the GPU.
        pointers: the tensors by the names of the kernel's parameters.
    """
    batch, channels, positions = x.shape
    sizes: dict[str, Any] = {
        "BLOCK_Q": tile.block_q,
        "BLOCK_K": tile.block_k,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
    if AUTOTUNE:
        kernel, sizes = _tuned(kernel), {}

    def grid(meta: dict[str, Any]) -> tuple[int, int]:
        rows = triton.cdiv(channels, meta[blocked])
        return batch * rows, triton.cdiv(positions, tile.block_n)

    with torch.cuda.device_of(x):
        kernel[grid](
            **pointers,
            D=channels,
            N=positions,
            BLOCK_N=tile.block_n,
            PRECISION=dot_precision(x),
            enable_fp_fusion=True,
            **sizes,
        )


@functools.cache
def _tuned(kernel: Any) -> Any:
    """Return ``kernel`` such that it times tiles on the first call of a shape and takes the best.

    Triton leaves out tiles that do not fit the GPU.
    """
    configs = [
        triton.Config({"BLOCK_Q": q, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
        for q, k in itertools.product((32, 64, 128), repeat=2)
        for warps, stages in ((4, 2), (4, 3), (8, 2), (8, 3))
    ]
    return triton.autotune(configs, key=["D", "N", "BLOCK_N", "PRECISION"])(kernel)


def channel_attention(q: Tensor, k: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax(q k^T) v [B, D, N] and the log-sum-exp of each row of scores [B, D]."""
    check_dtype(q)
    q, k, v = q.contiguous(), k.contiguous(), None if v is None else v.contiguous()
    out = torch.empty_like(k)
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    _launch(
        _forward_kernel,
        "BLOCK_Q",
        _tiles(q).forward,
        q,
        q_ptr=q,
        k_ptr=k,
        v_ptr=v,
        out_ptr=out,
        lse_ptr=lse,
    )
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
    tiles = _tiles(q)
    common = {
        "d_out_ptr": d_out,
        "q_ptr": q,
        "k_ptr": k,
        "v_ptr": v,
        "lse_ptr": lse,
        "delta_ptr": delta,
    }
    # In this order: the first leaves delta for the second.
    _launch(_d_query_kernel, "BLOCK_Q", tiles.d_query, q, **common, out_ptr=out, d_q_ptr=d_q)
    _launch(_d_key_kernel, "BLOCK_K", tiles.d_key, q, **common, d_k_ptr=d_k, d_v_ptr=d_v)
    return d_q, d_k, k.new_empty(0) if d_v is None else d_v
