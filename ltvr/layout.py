"""How features lie in memory: a sample as [D, N], or, where they are channels_last, as [N, D]."""

from __future__ import annotations

from torch import Tensor

__all__ = ["channels_last", "dense", "empty_features"]


def channels_last(x: Tensor) -> bool:
    """Whether each sample of ``x`` [B, D, N] lies in memory as [N, D], and not as [D, N]."""
    return not x.is_contiguous() and x.transpose(1, 2).is_contiguous()


def dense(x: Tensor) -> Tensor:
    """Return ``x``, or where its samples lie in memory in neither way, a copy as [D, N]."""
    return x if channels_last(x) else x.contiguous()


def empty_features(like: Tensor, samples: int, channels_last: bool) -> Tensor:
    """Return uninitialised features [samples, D, N] of the sizes and dtype of ``like``."""
    _, channels, positions = like.shape
    if channels_last:
        return like.new_empty(samples, positions, channels).transpose(1, 2)
    return like.new_empty(samples, channels, positions)
