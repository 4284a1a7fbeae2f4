"""Squeeze and excitation of the absorbed form (equation 2), and its backward.

z is the mean of X_att = out W_V over the positions: out times the row means of W_V, and X_att is
not needed. s = sigmoid(W_2 relu(W_1 z)) is two small products with what follows them in the same
kernel. All of it is in float32.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import LOG2E, load_block
from ltvr.kernels.launch import Launch, divide_up, dot_precision, kept, padded
from ltvr.kernels.rows import row_blocks

__all__ = ["squeeze_excite", "squeeze_excite_backward"]


@triton.jit
def _squeeze_kernel(
    out_ptr,
    mean_ptr,
    z_ptr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """z = out . mean."""
    sample = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cols = tl.arange(0, BLOCK_N)
    out = load_block(out_ptr + sample * D * N, rows, cols, D, N).to(tl.float32)
    mean = tl.load(mean_ptr + cols, mask=cols < N, other=0.0)
    tl.store(z_ptr + sample * D + rows, tl.sum(out * mean[None, :], 1), mask=rows < D)


@triton.jit
def _dense_kernel(
    x_ptr,
    w_ptr,
    active_ptr,
    y_ptr,
    samples,
    ACTIVATION: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Y = activation(X W^T), W [OUTPUTS, INPUTS]; X W of a W [INPUTS, OUTPUTS] if TRANSPOSED.

    With ``active_ptr`` Y is 0 where that is: the backward of a ReLU by what came out of it.
    """
    rows = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (rows[:, None] < samples) & (cols[None, :] < OUTPUTS)
    y = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
    for first in tl.range(0, INPUTS, BLOCK_K):
        some = first + tl.arange(0, BLOCK_K)
        x = tl.load(
            x_ptr + rows[:, None] * INPUTS + some[None, :],
            mask=(rows[:, None] < samples) & (some[None, :] < INPUTS),
            other=0.0,
        )
        if TRANSPOSED:
            w = load_block(w_ptr, some, cols, INPUTS, OUTPUTS)
        else:
            w = tl.trans(load_block(w_ptr, cols, some, OUTPUTS, INPUTS))
        y = tl.dot(x, w.to(tl.float32), y, input_precision=PRECISION)
    at = rows[:, None] * OUTPUTS + cols[None, :]
    if ACTIVATION == "relu":
        y = tl.maximum(y, 0.0)
    elif ACTIVATION == "sigmoid":
        y = 1 / (1 + tl.exp2(y * -LOG2E))
    if active_ptr is not None:
        y = tl.where(tl.load(active_ptr + at, mask=inside, other=0.0) > 0, y, 0.0)
    tl.store(y_ptr + at, y, mask=inside)


@kept
def _layer(x: Tensor, outputs: int, activation: str, transposed: bool) -> Launch:
    samples, inputs = x.shape
    return Launch(
        _dense_kernel,
        samples=samples,
        ACTIVATION=activation,
        TRANSPOSED=transposed,
        INPUTS=inputs,
        OUTPUTS=outputs,
        # Small blocks, for enough programs: there are few samples.
        BLOCK_B=16,
        BLOCK_K=min(padded(inputs, at_least=16), 128),
        BLOCK_N=min(padded(outputs, at_least=16), 32),
        PRECISION=dot_precision(x),
        num_warps=4,
    )


def _dense(
    x: Tensor, w: Tensor, activation: str, active: Tensor | None = None, *, transposed: bool = False
) -> Tensor:
    """Activation of X W^T, or of X W if ``transposed``, for X in float32: [B, outputs]."""
    samples = x.shape[0]
    outputs = w.shape[1 if transposed else 0]
    y = x.new_empty(samples, outputs)
    launch = _layer(x, outputs, activation, transposed)
    blocks = divide_up(samples, launch.constants["BLOCK_B"])
    grid = blocks, divide_up(outputs, launch.constants["BLOCK_N"])
    launch(grid, x_ptr=x, w_ptr=w.contiguous(), active_ptr=active, y_ptr=y)
    return y


@kept
def _squeeze(out: Tensor) -> Launch:
    return Launch(_squeeze_kernel, D=out.shape[1], N=out.shape[2], **row_blocks(out))


def squeeze_excite(
    out: Tensor, mean: Tensor, w_1: Tensor, w_2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """s [B, D], relu(W_1 z) [B, D/r] and z [B, D] of the attention's output [B, D, N].

    Args:
        mean: row means of W_V [N].
        w_1, w_2: [D/r, D] and [D, D/r].
    """
    batch, channels, _ = out.shape
    z = mean.new_empty(batch, channels)
    launch = _squeeze(out)
    grid = batch, divide_up(channels, launch.constants["BLOCK_D"])
    launch(grid, out_ptr=out, mean_ptr=mean, z_ptr=z)
    hidden = _dense(z, w_1, "relu")
    return _dense(hidden, w_2, "sigmoid"), hidden, z


def squeeze_excite_backward(
    d_logit: Tensor, hidden: Tensor, z: Tensor, w_1: Tensor, w_2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """d_z [B, D], d_W_1 and d_W_2, of the gradient of what s is the sigmoid of, [B, D]."""
    d_hidden = _dense(d_logit, w_2, "none", hidden, transposed=True)
    d_z = _dense(d_hidden, w_1, "none", transposed=True)
    return d_z, d_hidden.T @ z, d_logit.T @ hidden
