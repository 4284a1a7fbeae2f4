"""What the host needs to launch any kernel: precision of products, kind of GPU, padded sizes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["capability", "check_dtype", "divide_up", "dot_precision", "full_precision", "padded"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def check_dtype(x: Tensor) -> None:
    """Raise a TypeError for a dtype that the kernels do not take."""
    if x.dtype not in _DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise TypeError(f"the Triton kernels take {names}, not {x.dtype}; use backend='reference'")


def dot_precision(x: Tensor) -> str:
    """Return how float32 products are made, by ``torch.backends.cuda.matmul.fp32_precision``.

    ``tf32`` and ``ieee`` are what they say; ``torch.set_float32_matmul_precision("highest")`` sets
    the latter. Where nobody has set anything, products are as exact as float32, and made as fast as
    the GPU can (``full_precision``).
    """
    if x.dtype != torch.float32:
        return "ieee"
    setting: str = torch.backends.cuda.matmul.fp32_precision
    return full_precision(capability(x)) if setting == "none" else setting


def full_precision(capability: int) -> str:
    """Return how a GPU of this capability makes products as exact as float32.

    ``tf32x3``, three TF32 products for one, is as near to float64, and three to four times as fast
    as ``ieee`` where the matrix unit is that of a data centre. Elsewhere a third of its rate is no
    more than the float32 units do.
    """
    return "tf32x3" if capability in (80, 90, 100, 103, 110) else "ieee"


def capability(x: Tensor) -> int:
    """Return 80 for sm_80, 90 for sm_90 and so on, and 80 under the interpreter, on the CPU."""
    if not x.is_cuda:
        return 80
    major, minor = torch.cuda.get_device_capability(x.device)
    return 10 * major + minor


def divide_up(size: int, block: int) -> int:
    """Return how many blocks cover ``size``; ``triton.cdiv`` takes two microseconds on the host."""
    return -(-size // block)


def padded(size: int, at_least: int = 1) -> int:
    """Return the next power of two: blocks are powers of two, ``tl.dot`` wants 16 or more."""
    return max(at_least, 1 << (size - 1).bit_length())
