"""Tiles of the attention kernels, by shape, precision and GPU, and their launch."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ltvr.kernels.launch import AUTOTUNE, capability, dot_precision, padded

__all__ = ["Tile", "Tiles", "launch_attention", "pick_tiles", "tiles_of"]


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


def tiles_of(x: Tensor) -> Tiles:
    """Return the tiles for features ``x`` [B, D, N] on the GPU that holds them."""
    precision = dot_precision(x) if x.dtype == torch.float32 else "half"
    return pick_tiles(x.shape[1], x.shape[2], precision, capability(x))


def launch_attention(
    kernel: Any, blocked: str, tile: Tile, x: Tensor, **pointers: Tensor | None
) -> None:
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
