"""How features lie in memory: a sample as [D, N], or, where they are channels_last, as [N, D]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["MOST_NARROW_POSITIONS", "channels_last", "dense", "empty_features", "width"]

MOST_NARROW_POSITIONS = 64
"""Up to so many positions the kernels make all products of rows by themselves."""


def channels_last(x: Tensor) -> bool:
    """Whether each sample of ``x`` [B, D, N] lies in memory as [N, D], and not as [D, N]."""
    return not x.is_contiguous() and x.transpose(1, 2).is_contiguous()


def dense(x: Tensor) -> Tensor:
    """Return ``x``, or where its samples lie in memory in neither way, a copy as [D, N]."""
    return x if channels_last(x) else x.contiguous()


def empty_features(like: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Return uninitialised features [samples, D, N] of the dtype and device of ``like``."""
    samples, channels, positions = shape
    if channels_last:
        return like.new_empty(samples, positions, channels).transpose(1, 2)
    return like.new_empty(samples, channels, positions)


def width(x: Tensor) -> int:
    """Columns that a GPU gives the rows of features ``x`` [B, D, N]: N, and zeros behind them.

    PyTorch's products with many positions were up to 2.5 times as fast on an H200 where a row
    begins at a multiple of 16 bytes: 196 positions in bfloat16 take 200 columns.
    """
    positions = x.shape[2]
    if positions <= MOST_NARROW_POSITIONS:
        return positions
    step = 16 // x.element_size()
    return -(-positions // step) * step
