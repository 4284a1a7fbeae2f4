"""What the host needs to launch any kernel: precision of products, kind of GPU, padded sizes.

A step of few samples takes the host longer than the GPU. So what follows from shapes alone is made
once (``kept``), and Triton is asked once which compiled kernel it is (``Launch``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

__all__ = [
    "Launch",
    "capability",
    "check_dtype",
    "divide_up",
    "dot_precision",
    "full_precision",
    "kept",
    "multiprocessors",
    "padded",
]

Made = TypeVar("Made")

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
    return _capability(x.device)


@functools.cache
def _capability(device: torch.device) -> int:
    if device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Return how many the GPU has; under the interpreter, on the CPU, as many as an A100."""
    if device.type != "cuda":
        return 108
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def divide_up(size: int, block: int) -> int:
    """Return how many blocks cover ``size``; ``triton.cdiv`` takes two microseconds on the host."""
    return -(-size // block)


def padded(size: int, at_least: int = 1) -> int:
    """Return the next power of two: blocks are powers of two, ``tl.dot`` wants 16 or more."""
    return max(at_least, 1 << (size - 1).bit_length())


def kept(make: Callable[..., Made]) -> Callable[..., Made]:
    """Call ``make(x, *options)`` once for all ``x`` that are alike, and keep what it returned.

    ``make`` may read the shape of ``x``, its dtype, its GPU, and how products of it are made. All
    else has to be in the options. What it returns holds no tensor.
    """
    made: dict[tuple[Any, ...], Made] = {}

    @functools.wraps(make)
    def find(x: Tensor, *options: Any) -> Made:
        device = x.device
        gpu = device, _capability(device)
        key = (x.shape, x.dtype, gpu, dot_precision(x), *options)
        found = made.get(key)
        if found is None:
            found = made[key] = make(x, *options)
        return found

    return find


class Launch:
    """A kernel on one GPU with all that it takes but tensors and floats.

    To find the compiled kernel that fits its arguments took Triton half of what a launch takes the
    host. It is found once for every kind of arguments that Triton tells apart: of a tensor the
    dtype and whether it begins at a multiple of 16 bytes, of a float nothing.
    """

    def __init__(self, kernel: Any, **constants: Any) -> None:
        self.kernel = kernel
        self.constants = constants
        """The kernel's integers and constants by name, and Triton's own, as ``num_warps``."""
        self._values: tuple[Any, ...] = ()
        """What a compiled kernel takes behind the arguments."""
        self._compiled: dict[tuple[object, ...], CompiledKernel] = {}

    def __call__(self, grid: Any, **arguments: Tensor | float | None) -> None:
        """Run the kernel on the current stream of the current device.

        Args:
            grid: up to three numbers, or as Triton takes it where the kernel is tuned.
            arguments: all that are no constants, in the order of the kernel's parameters.
        """
        given = tuple(arguments.values())
        kind = tuple(
            [(a.dtype, a.data_ptr() % 16 == 0) if isinstance(a, Tensor) else type(a) for a in given]
        )
        compiled = self._compiled.get(kind)
        if compiled is not None:
            three = (*grid, 1, 1)
            compiled[three](*given, *self._values)
            return
        compiled = self.kernel[grid](**arguments, **self.constants)
        # Not under the interpreter, nor where Triton times several kernels.
        if isinstance(self.kernel, JITFunction) and isinstance(compiled, CompiledKernel):
            names = self.kernel.arg_names
            assert names[: len(given)] == list(arguments), f"expected the order {names}"
            self._values = tuple(self.constants[name] for name in names[len(given) :])
            self._compiled[kind] = compiled
