"""Where a run computes, and in which precision."""

from __future__ import annotations

import torch

from ltvr.errors import UserError

__all__ = ["autocast", "choose_device", "memory_format"]


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        UserError: cuda where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch sees no CUDA device; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(amp: str, device: torch.device) -> torch.autocast:
    """Context of mixed precision (``none``, ``bf16``, ``fp16``), in training and evaluation."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def memory_format(channels_last: bool) -> torch.memory_format:
    """How the maps of images and features are laid out."""
    return torch.channels_last if channels_last else torch.contiguous_format
