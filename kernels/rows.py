"""Blocks of the kernels whose time is that of reading and writing [D, N] samples."""

from __future__ import annotations

from torch import Tensor

from ltvr.kernels.launch import capability, padded
from ltvr.layout import MOST_NARROW_POSITIONS

__all__ = ["fits", "product_blocks", "row_blocks"]

# Elements of a block. They are 16 a thread: enough for loads of 16 bytes, and few enough that the
# five tensors of the backward of the split fit the registers.
ELEMENTS = 2048
WARPS = 4


def fits(x: Tensor) -> bool:
    """Whether a program holds an [N, N] weight beside rows of ``x`` [B, D, N].

    Else PyTorch makes the products with it: with more positions a program would read more of a
    weight than of the features, and in float32 the registers suffice for 16 alone.
    """
    return x.shape[2] <= (MOST_NARROW_POSITIONS if x.element_size() == 2 else 16)


def row_blocks(x: Tensor) -> dict[str, int]:
    """Blocks of kernels that take whole rows of ``x`` [B, D, N] and multiply none.

    With many positions a block has twice the rows, and the warps: the GPU reads 32 bytes at a time,
    the channels of one position where features are channels_last. A block of few elements has
    fewer warps: they would all hold the same.
    """
    block_n = padded(x.shape[2])
    factor = 2 if block_n > MOST_NARROW_POSITIONS and x.element_size() == 2 else 1
    block_d = min(padded(x.shape[1]), max(1, factor * ELEMENTS // block_n))
    warps = min(factor * WARPS, max(1, block_d * block_n // 128))
    return {"BLOCK_D": block_d, "BLOCK_N": block_n, "num_warps": warps}


def product_blocks(x: Tensor) -> dict[str, int]:
    """Blocks of kernels that multiply rows of ``x`` [B, D, N] by an [N, N] weight.

    A block may have some of the columns only. On GPUs whose matrix unit takes its operands from
    shared memory, a block of many positions has twice the rows, among which the weight is shared,
    and registers are left to read the next block ahead.
    """
    most = 128 if x.element_size() == 2 else 32
    block_n = min(padded(x.shape[2], at_least=16), most)
    factor = 2 if block_n >= 64 and 90 <= capability(x) < 120 else 1
    block_d = min(padded(x.shape[1], at_least=16), factor * ELEMENTS // min(block_n, 64))
    warps = factor * WARPS
    return {"BLOCK_D": block_d, "BLOCK_N": block_n, "num_warps": warps, "num_stages": factor}
