"""Tiles of the attention kernels, by shape, precision and GPU, and their launch."""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import Any, Literal, NamedTuple

import torch
import triton
from torch import Tensor

from ltvr.device import AUTOTUNE
from ltvr.kernels.launch import Launch, capability, divide_up, dot_precision, kept, padded

__all__ = [
    "Tile",
    "Tiles",
    "launch_attention",
    "matrix_unit",
    "pick_tiles",
    "pieces_of",
    "tiles_of",
    "warn_of_slow_products",
]

Unit = Literal["mma", "wgmma", "tcgen05"]


class Tile(NamedTuple):
    """How a kernel divides its work: queries, keys and columns of a block, warps, stages.

    ``parts`` are the columns: blocks of a power of two are made beside each other, so that 196
    positions take 128 + 64 + 16 columns instead of 256. ``stages`` is how many blocks are on their
    way from memory at a time.
    """

    block_q: int
    block_k: int
    parts: tuple[int, ...]
    warps: int
    stages: int


class Tiles(NamedTuple):
    forward: Tile
    d_query: Tile
    d_key: Tile


class _Row(NamedTuple):
    """Tiles for up to so many columns. In a tile an int stands for its widest part."""

    columns: int
    forward: tuple[int, int, int, int, int]
    d_query: tuple[int, int, int, int, int]
    d_key: tuple[int, int, int, int, int]


# Queries, keys, widest part, warps, stages. Those of Hopper are the fastest of those timed, half
# precision on an H200 and float32 on an H100 (bench/results/gpu_tiles.jsonl), but for float32 of
# few positions: four warps that wait for each other less beat eight that share what they read. All
# others were chosen by what the compiler reports (bench/kernel_report.py): registers do not spill,
# shared memory and tensor memory suffice, no warps do the same work twice, and of such tiles the
# one whose busiest pipe has least to do.
#
# mma (Ampere, Ada, consumer Blackwell): a warp holds 16 rows, or 32 where these fit its registers,
# which halves what it reads from shared memory. Parts of 64 columns take fewest registers. All
# tiles fit the 101,376 bytes of sm_86, sm_89 and sm_120.
# wgmma (Hopper): four warps hold 64 rows.
# tcgen05 (Blackwell): as many rows, but tensor memory ends at 512 columns.
#
# On Hopper a program in float32 makes all columns up to 208, and so the scores once instead of four
# times. Beyond 64 positions its backward spills: 8 bytes at 196 in tf32, and up to 1 KB in tf32x3,
# whose blocks that spill less were slower. There d_key of tf32x3 spills 8 bytes on sm_80.
_TABLE: dict[tuple[str, Unit], list[_Row]] = {
    ("half", "mma"): [
        _Row(16, (128, 64, 16, 8, 3), (64, 64, 16, 4, 3), (64, 64, 16, 4, 3)),
        _Row(64, (128, 32, 64, 4, 3), (128, 32, 64, 4, 2), (32, 128, 64, 4, 2)),
        _Row(144, (128, 32, 64, 8, 2), (64, 32, 64, 4, 2), (32, 64, 64, 4, 2)),
        _Row(208, (64, 32, 64, 4, 2), (64, 16, 64, 4, 2), (16, 64, 64, 4, 2)),
        _Row(256, (64, 16, 64, 4, 2), (64, 16, 64, 4, 2), (16, 64, 64, 4, 2)),
    ],
    ("half", "wgmma"): [
        _Row(16, (64, 64, 16, 4, 3), (64, 64, 16, 4, 3), (64, 64, 16, 4, 3)),
        _Row(64, (64, 64, 64, 4, 3), (64, 64, 64, 4, 3), (32, 128, 64, 4, 3)),
        _Row(256, (128, 64, 128, 8, 3), (128, 64, 128, 8, 3), (32, 64, 128, 4, 3)),
    ],
    ("half", "tcgen05"): [
        _Row(16, (128, 64, 16, 4, 3), (64, 64, 16, 4, 3), (64, 64, 16, 4, 3)),
        _Row(64, (128, 64, 64, 4, 3), (128, 64, 64, 8, 2), (64, 128, 64, 8, 2)),
        _Row(144, (128, 64, 128, 8, 2), (128, 64, 128, 8, 2), (64, 64, 128, 8, 2)),
        _Row(256, (128, 64, 128, 8, 2), (64, 64, 128, 8, 2), (64, 64, 256, 8, 2)),
    ],
    ("tf32", "mma"): [
        _Row(16, (64, 32, 16, 4, 2), (64, 32, 16, 4, 2), (16, 64, 16, 4, 2)),
        _Row(64, (64, 32, 64, 4, 2), (64, 32, 64, 4, 2), (32, 64, 64, 4, 2)),
    ],
    ("tf32", "wgmma"): [
        _Row(16, (64, 32, 16, 4, 2), (64, 32, 16, 4, 2), (32, 64, 16, 4, 2)),
        _Row(64, (128, 64, 64, 8, 3), (64, 64, 64, 4, 2), (32, 64, 64, 4, 2)),
        _Row(208, (128, 64, 128, 8, 2), (64, 32, 64, 4, 2), (32, 64, 128, 4, 2)),
    ],
    ("tf32", "tcgen05"): [
        _Row(64, (64, 32, 64, 4, 2), (64, 32, 64, 4, 2), (32, 64, 64, 4, 2)),
    ],
    ("tf32x3", "mma"): [
        _Row(16, (64, 32, 16, 4, 2), (64, 32, 16, 4, 2), (32, 64, 16, 4, 2)),
        _Row(64, (64, 16, 64, 4, 2), (64, 16, 64, 4, 2), (16, 64, 32, 4, 1)),
    ],
    ("tf32x3", "wgmma"): [
        _Row(16, (64, 32, 64, 4, 2), (64, 32, 64, 4, 2), (32, 64, 64, 4, 2)),
        _Row(64, (64, 64, 64, 4, 2), (64, 64, 64, 4, 2), (32, 64, 64, 4, 2)),
        _Row(208, (128, 32, 128, 8, 1), (64, 32, 64, 4, 1), (16, 64, 128, 4, 2)),
    ],
    ("tf32x3", "tcgen05"): [
        _Row(64, (64, 32, 64, 4, 2), (64, 32, 64, 8, 2), (32, 64, 64, 8, 2)),
    ],
    ("ieee", "mma"): [
        _Row(64, (64, 32, 64, 8, 2), (32, 32, 64, 4, 2), (32, 32, 64, 8, 2)),
    ],
    ("ieee", "wgmma"): [
        _Row(64, (64, 32, 64, 8, 2), (32, 32, 64, 4, 2), (32, 32, 64, 8, 2)),
    ],
    ("ieee", "tcgen05"): [
        _Row(64, (32, 32, 64, 4, 2), (32, 32, 64, 4, 2), (32, 32, 64, 8, 2)),
    ],
}


def matrix_unit(capability: int) -> Unit:
    """Return the instructions by which Triton multiplies matrices on a GPU of this capability.

    This says nothing of its shared memory: sm_120 has the unit of sm_80 and less memory.
    """
    if 90 <= capability < 100:
        return "wgmma"
    return "tcgen05" if 100 <= capability < 120 else "mma"


def pick_tiles(channels: int, positions: int, precision: str, capability: int) -> Tiles:
    """Return the tiles for a shape.

    Args:
        channels, positions: D and N.
        precision: ``half`` (bfloat16, float16), ``tf32``, ``tf32x3`` or ``ieee``.
        capability: of the GPU, as 80, 90 or 100.
    """
    table = _TABLE[precision, matrix_unit(capability)]
    # Where there are more columns than any row of the table has, a program makes this many columns
    # of its result, and sums the scores over all columns in steps of this size.
    share = 128 if precision == "half" else 64
    columns = positions if positions <= table[-1].columns else share
    row = next(row for row in table if columns <= row.columns)
    rows = padded(channels, at_least=16)

    def tile(q: int, k: int, widest: int, warps: int, stages: int) -> Tile:
        parts = _parts(columns, widest) if columns == positions else (columns,)
        return Tile(min(q, rows), min(k, rows), parts, warps, stages)

    return Tiles(tile(*row.forward), tile(*row.d_query), tile(*row.d_key))


def _parts(columns: int, widest: int) -> tuple[int, ...]:
    """Divide columns, rounded up to 16, into powers of two of falling size, or take one of all."""
    if padded(columns, at_least=16) <= widest:
        return (padded(columns, at_least=16),)
    left = -(-columns // 16) * 16
    parts = [widest] * (left // widest)
    left %= widest
    while left:
        parts.append(1 << (left.bit_length() - 1))
        left -= parts[-1]
    return tuple(parts)


def warn_of_slow_products(positions: int, precision: str) -> None:
    """Say so where the attention may be slower than PyTorch's own (docs/speed.md)."""
    if positions > 64 and precision in ("tf32x3", "ieee"):
        warnings.warn(
            f"AFA over {positions} positions in float32 without TF32 may take this GPU longer than "
            "backend='reference'; train with --amp bf16, or set "
            "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
            stacklevel=2,
        )


@kept
def tiles_of(x: Tensor) -> Tiles:
    """Return the tiles for features ``x`` [B, D, N] on the GPU that holds them."""
    precision = dot_precision(x) if x.dtype == torch.float32 else "half"
    if x.is_cuda:
        warn_of_slow_products(x.shape[2], precision)
    return pick_tiles(x.shape[1], x.shape[2], precision, capability(x))


def pieces_of(x: Tensor) -> int:
    """Return in how many pieces (``pieces.py``) the products take features ``x`` [B, D, N].

    On Hopper two for TF32, which hold more than it, and three, which hold a float32, where three
    TF32 products would make it: a step at 64 positions took an H100 2.9 and 4.7 ms, without pieces
    an H200 3.8 and 8.5. Few positions have few products, not worth the splitting of scores.
    """
    if x.dtype != torch.float32 or x.shape[2] <= 16 or matrix_unit(capability(x)) != "wgmma":
        return 1
    return {"tf32": 2, "tf32x3": 3}.get(dot_precision(x), 1)


@kept
def _attention(x: Tensor, kernel: Any, tile: Tile) -> Launch:
    offsets = itertools.accumulate(tile.parts, initial=0)
    sizes: dict[str, Any] = {
        "BLOCK_Q": tile.block_q,
        "BLOCK_K": tile.block_k,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
    return Launch(
        _tuned(kernel) if AUTOTUNE else kernel,
        D=x.shape[1],
        N=x.shape[2],
        stride=x.numel(),
        PARTS=tuple(zip(offsets, tile.parts, strict=False)),
        PIECES=pieces_of(x),
        PRECISION=dot_precision(x),
        enable_fp_fusion=True,
        **({} if AUTOTUNE else sizes),
    )


def launch_attention(
    kernel: Any, blocked: str, tile: Tile, x: Tensor, **pointers: Tensor | None
) -> None:
    """Run ``kernel`` on every sample, block of its ``blocked`` dimension, and share of the columns.

    Args:
        blocked: the kernel's name for the block that the grid divides the channels into.
        tile: sizes of the blocks.
        x: any of the tensors [B, D, N]: gives the shape, the dtype and the GPU.
        pointers: the tensors by the names of the kernel's parameters, in their order.
    """
    batch, channels, positions = x.shape

    def grid(sizes: dict[str, Any]) -> tuple[int, int]:
        rows = divide_up(channels, sizes[blocked])
        return batch * rows, divide_up(positions, sum(tile.parts))

    launch = _attention(x, kernel, tile)
    launch(grid if AUTOTUNE else grid(launch.constants), **pointers)


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
    return triton.autotune(configs, key=["D", "N", "PARTS", "PRECISION"])(kernel)
