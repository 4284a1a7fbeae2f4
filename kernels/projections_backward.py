"""The backward of the linear projections (``projections.py``) and of X_att = out W_V.

Each is a product's backward: from the gradient of Y = X W follow d_X = d_Y W^T and d_W = X^T d_Y. A
program walks over many blocks of rows, makes their d_X and keeps the sum of their X^T d_Y, so that
every tensor is read once. The sums of the programs are added in a fixed order at the end. The
products are made transposed, d_X^T = W d_Y^T: as the left operand the weight is divided among the
warps, while as the right one each would hold all of it in registers.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.add import add
from ltvr.kernels.blocks import load_block, store_block
from ltvr.kernels.launch import Launch, capability, divide_up, dot_precision, kept
from ltvr.kernels.rows import fits, product_blocks
from ltvr.kernels.tiles import matrix_unit
from ltvr.layout import channels_last, empty_features

__all__ = ["attended_backward", "projections_backward"]

# Programs that walk over the rows. Two or more run on a multiprocessor at a time, while one waits
# for memory; more of them would write more sums of N x N.
PROGRAMS = 256


@triton.jit
def _attended_kernel(
    d_x_att_ptr,
    d_z_ptr,
    out_ptr,
    w_ptr,
    d_out_ptr,
    sums_ptr,
    samples,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """d_X_att with its part through z, times W_V^T; and the first part of d_W_V."""
    BLOCKS: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    cols = tl.arange(0, BLOCK_N)
    w = load_block(w_ptr, cols, cols, N, N)
    d_w = tl.zeros([BLOCK_N, BLOCK_N], tl.float32)
    first_block = tl.program_id(0).to(tl.int64)
    for block in tl.range(first_block, samples * BLOCKS, tl.num_programs(0)):
        sample = block // BLOCKS
        rows = block % BLOCKS * BLOCK_D + tl.arange(0, BLOCK_D)
        base = sample * D * N
        # [BLOCK_D, BLOCK_N]
        out = load_block(out_ptr + base, rows, cols, D, N)
        d_x_att = load_block(d_x_att_ptr + base, rows, cols, D, N).to(tl.float32)
        d_z = tl.load(d_z_ptr + sample * D + rows, mask=rows < D, other=0.0)
        d_x_att = (d_x_att + d_z[:, None] / N).to(out.dtype)
        d_out = tl.dot(w, tl.trans(d_x_att), input_precision=PRECISION)  # transposed
        store_block(d_out_ptr + base, rows, cols, tl.trans(d_out), D, N)
        d_w = tl.dot(tl.trans(out), d_x_att, d_w, input_precision=PRECISION)
    sums_ptr += (2 * tl.program_id(0) + 1) * N * N
    store_block(sums_ptr, cols, cols, d_w, N, N)


@triton.jit
def _features_kernel(
    x_ptr,
    d_q_ptr,
    d_k_ptr,
    d_v_ptr,
    d_real_ptr,
    a_ptr,
    w_ptr,
    d_x_ptr,
    sums_ptr,
    samples,
    REAL_LAST: tl.constexpr,
    X_LAST: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """d_X = d_Q A^T + d_V W_V^T + d_K + d_real; and d_A, and the rest of d_W_V."""
    BLOCKS: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    cols = tl.arange(0, BLOCK_N)
    sums_ptr += 2 * tl.program_id(0) * N * N
    d_a = tl.zeros([BLOCK_N, BLOCK_N], tl.float32)
    d_w = load_block(sums_ptr + N * N, cols, cols, N, N)
    first_block = tl.program_id(0).to(tl.int64)
    for block in tl.range(first_block, samples * BLOCKS, tl.num_programs(0)):
        sample = block // BLOCKS
        rows = block % BLOCKS * BLOCK_D + tl.arange(0, BLOCK_D)
        base = sample * D * N
        # [BLOCK_D, BLOCK_N]
        x = tl.trans(load_block(x_ptr + base, rows, cols, D, N))
        d_q = load_block(d_q_ptr + base, rows, cols, D, N)
        a = load_block(a_ptr, cols, cols, N, N)
        products = tl.dot(a, tl.trans(d_q), input_precision=PRECISION)  # transposed
        d_a = tl.dot(x, d_q, d_a, input_precision=PRECISION)
        d_v = load_block(d_v_ptr + base, rows, cols, D, N)
        w = load_block(w_ptr, cols, cols, N, N)
        products = tl.dot(w, tl.trans(d_v), products, input_precision=PRECISION)
        d_w = tl.dot(x, d_v, d_w, input_precision=PRECISION)
        d_x = tl.trans(products) + load_block(d_k_ptr + base, rows, cols, D, N)
        if d_real_ptr is not None:
            d_x += load_block(d_real_ptr + base, rows, cols, D, N, REAL_LAST)
        store_block(d_x_ptr + base, rows, cols, d_x, D, N, X_LAST)
    store_block(sums_ptr, cols, cols, d_a, N, N)
    store_block(sums_ptr + N * N, cols, cols, d_w, N, N)


class _Walk(NamedTuple):
    """A kernel whose programs walk over the rows."""

    programs: int
    launch: Launch


def _walk(kernel: Any, x: Tensor, **constants: Any) -> _Walk:
    """Programs that walk over the rows of ``x``, and their blocks.

    On GPUs whose matrix unit takes its operands from registers a block has half the rows of other
    products: of five tensors more do not fit beside two weights, and more warps run at a time. In
    float32 it has a quarter.
    """
    sizes = product_blocks(x)
    if x.dtype == torch.float32:
        sizes["BLOCK_D"] = max(16, sizes["BLOCK_D"] // 4)
    elif matrix_unit(capability(x)) == "mma":
        sizes["BLOCK_D"] = max(16, sizes["BLOCK_D"] // 2)
    batch, channels, positions = x.shape
    shape = {"samples": batch, "D": channels, "N": positions}
    launch = Launch(kernel, **shape, PRECISION=dot_precision(x), **constants, **sizes)
    return _Walk(min(PROGRAMS, batch * divide_up(channels, sizes["BLOCK_D"])), launch)


@kept
def _attended(out: Tensor) -> _Walk:
    return _walk(_attended_kernel, out)


@kept
def _features(x: Tensor, real_last: bool, x_last: bool) -> _Walk:
    return _walk(_features_kernel, x, REAL_LAST=real_last, X_LAST=x_last)


def attended_backward(
    d_x_att: Tensor, d_z: Tensor, out: Tensor, w: Tensor, positions: int
) -> tuple[Tensor, Tensor | None]:
    """Gradient of the attention's output, and sums that ``projections_backward`` adds to.

    Args:
        d_x_att: [B, D, width], without the part through z, which may be added to it.
        d_z: [B, D]; z is the mean of X_att over N.
        out: the attention's output [B, D, width].
        w: W_V [width, width].
        positions: N.
    """
    if not fits(out):
        # This adds to the padding behind the N positions as well. It does no harm: W_V is zero
        # there, and d_W_V leaves it out.
        add(d_x_att, d_x_att, of_row=d_z / positions)
        return d_x_att @ w.T, None
    programs, launch = _attended(out)
    d_out, sums = torch.empty_like(out), d_z.new_empty(programs, 2, positions, positions)
    launch(
        (programs,),
        d_x_att_ptr=d_x_att,
        d_z_ptr=d_z,
        out_ptr=out,
        w_ptr=w,
        d_out_ptr=d_out,
        sums_ptr=sums,
    )
    return d_out, sums


def projections_backward(
    x: Tensor,
    d_q: Tensor,
    d_k: Tensor,
    d_v: Tensor,
    d_real: Tensor | None,
    a: Tensor,
    w: Tensor,
    out: Tensor,
    d_x_att: Tensor,
    sums: Tensor | None,
    x_last: bool,
    positions: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """d_X [B, D, N], and in float32 d_A and d_W_V [N, N].

    Args:
        x, out: X and the attention's output, [B, D, width].
        d_q, d_k: gradients of the attention's Q and of X as its keys and values, [B, D, width];
            d_k may be added to.
        d_v: gradient of V = X W_V, [B, D, width].
        d_real: gradient of X as part of the real rows, [B, D, N]; None if it is none.
        a, w: A and W_V [width, width].
        d_x_att, sums: as ``attended_backward`` left them.
        x_last: whether d_X is [B, N, D] in memory.
        positions: N.
    """
    d_x = empty_features(x, (*x.shape[:2], positions), x_last)
    if sums is None:
        flat_x, flat_q, flat_k, flat_v = (t.flatten(0, 1) for t in (x, d_q, d_k, d_v))
        flat_k.addmm_(flat_q, a.T).addmm_(flat_v, w.T)
        add(d_x, d_k, d_real)
        d_w = torch.addmm(flat_x.T @ flat_v, out.flatten(0, 1).T, d_x_att.flatten(0, 1))
        d_a, d_w = (
            d[:positions, :positions].contiguous().float() for d in (flat_x.T @ flat_q, d_w)
        )
        return d_x, d_a, d_w
    programs, launch = _features(x, d_real is not None and channels_last(d_real), x_last)
    launch(
        (programs,),
        x_ptr=x,
        d_q_ptr=d_q,
        d_k_ptr=d_k,
        d_v_ptr=d_v,
        d_real_ptr=d_real,
        a_ptr=a,
        w_ptr=w,
        d_x_ptr=d_x,
        sums_ptr=sums,
    )
    total = sums.sum(0)
    return d_x, total[0], total[1]
