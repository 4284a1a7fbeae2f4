"""What the equations and the plan take; everything else is refused here, in one line, by name.

Shapes, dtypes and devices are checked wherever a tensor is. The numbers in a tensor are read on the
host alone: on a GPU that would make the host wait.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ltvr.errors import brief

__all__ = [
    "FLOATING",
    "MOST_GAIN",
    "check_below",
    "check_choice",
    "check_factor",
    "check_features",
    "check_flag",
    "check_index",
    "check_integer",
    "check_real_rows",
    "check_tensor",
    "readable",
]

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Dtypes of features and weights."""
MOST_GAIN: float = torch.finfo(torch.float32).max
"""The mask is computed in float32."""

# A tensor is no number: what is computed from it here would have no gradient. A SymInt or SymFloat
# is one, of a shape that is not known while a graph is traced.
_NUMBERS = (int, float, np.integer, np.floating, torch.SymInt, torch.SymFloat)


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuse what is not one of the strings of the Literal ``choices``."""
    known = get_args(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} = {brief(value)}: expected one of {', '.join(known)}")
    if value not in known:
        raise ValueError(f"{name} = {brief(value)}: expected one of {', '.join(known)}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} = {brief(value)}: expected True or False")


def check_real_rows(name: str, addition: bool, residual: bool) -> None:
    """Refuse real rows that contain neither X_class (``addition``, by its ``name``) nor X."""
    if not (addition or residual):
        raise ValueError(f"{name} = False: expected True where the real rows are without X")


def check_integer(name: str, value: Any, low: int, expected: str) -> int:
    """Return ``value`` as an integer from ``low`` to 2^63 - 1."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} = {brief(value)}: expected {expected}")
    if not low <= number < 2**63:
        raise ValueError(f"{name} = {brief(number)}: expected {expected}")
    return number


def check_factor(name: str, value: Any, meaning: str, most: float = math.inf) -> float:
    """Return ``value`` as a finite number from 0 to ``most``."""
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        raise TypeError(f"{name} = {brief(value)}: expected a number ({meaning})")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest double
        number = math.inf
    if not (math.isfinite(number) and 0 <= number <= most):
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(f"{name} = {number}: expected a finite number >= 0{limit} ({meaning})")
    return number


def check_features(name: str, x: object, axes: str) -> None:
    """Refuse what is not features: B samples of floating dtype, no other axis of ``axes`` empty.

    Args:
        axes: ``B, D, H, W`` or ``B, D, N``.
    """
    x = _dense(name, x)
    if x.dtype not in FLOATING:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATING)
        raise TypeError(f"{name}: expected one of {known}, got {_dtype(x)}")
    if x.dim() != len(axes.split(",")) or not all(size >= 1 for size in x.shape[1:]):
        raise ValueError(
            f"{name} of shape {list(x.shape)}: expected [{axes}], nothing but B being 0"
        )


def check_tensor(
    name: str,
    tensor: object,
    shape: tuple[int, ...],
    dtypes: torch.dtype | Sequence[torch.dtype],
    device: torch.device,
) -> None:
    """Refuse what is not a dense tensor of this shape, on this device, of one of these dtypes."""
    # Not by ``_dense`` alone: some fifty tensors are checked in a step, and a call takes time.
    if not isinstance(tensor, Tensor) or tensor.is_nested or tensor.layout != torch.strided:
        tensor = _dense(name, tensor)
    dtypes = (dtypes,) if isinstance(dtypes, torch.dtype) else dtypes
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name}: expected {known}, got {_dtype(tensor)}")
    if tensor.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(tensor.shape)}")
    if tensor.device != device:
        raise ValueError(f"{name}: expected it on {device}, got it on {tensor.device}")


def check_index(name: str, index: Tensor, end: int, device: torch.device) -> None:
    """Refuse what is not indices [G] below ``end``, of int64 on this device."""
    index = _dense(name, index)
    check_tensor(name, index, (index.numel(),), torch.int64, device)
    check_below(name, index, end)


def check_below(name: str, index: Tensor, end: int) -> None:
    """Refuse numbers that are not indices below ``end``, where the numbers can be read."""
    if not readable(index):
        return
    numbers = index.numpy()
    # As unsigned numbers, those below zero are the largest.
    if len(numbers) and numbers.view(np.uint64).max() >= end:
        g = int(np.argmax(numbers.view(np.uint64) >= end))
        raise ValueError(f"{name}[{g}] = {numbers[g]}: expected an index >= 0 and below {end}")


def readable(*tensors: Tensor) -> bool:
    """Whether the numbers can be read at once: on the host, and not while a graph is traced."""
    # A subclass may stand for a tensor without having its numbers, as a FakeTensor does.
    return not torch.compiler.is_compiling() and all(
        type(tensor) is Tensor and tensor.device.type == "cpu" for tensor in tensors
    )


def _dense(name: str, tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"{name}: expected a dense tensor, got a {kind} one")
    return tensor


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
