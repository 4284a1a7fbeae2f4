"""Where a run computes, and in which precision."""

from __future__ import annotations

import os
from typing import Any

import torch

from ltvr.distributed import launched, local_rank
from ltvr.errors import UserError

__all__ = ["AUTOTUNE", "autocast", "choose_device", "fp32_precision", "memory_format"]

AUTOTUNE = os.environ.get("LTVR_AUTOTUNE") == "1"
"""Whether the Triton kernels time a few tiles on the first call of a shape and take the fastest."""


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one; of several ranks each has a GPU of its own.

    Raises:
        UserError: cuda where there is none, or fewer GPUs than ranks on this machine.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch sees no CUDA device; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched() > 1:
        index, found = local_rank(), torch.cuda.device_count()
        if index >= found:
            raise UserError(
                f"rank {index} of this machine has no GPU, for there are {found}; start one rank a "
                f"GPU, torchrun --nproc-per-node {found}"
            )
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    return torch.device(name)


def autocast(amp: str, device: torch.device) -> torch.autocast:
    """Context of mixed precision (``none``, ``bf16``, ``fp16``), in training and evaluation."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def fp32_precision(device: torch.device) -> str:
    """How PyTorch has been told to make float32 products and convolutions on a device.

    ``none`` is PyTorch's default; ``ieee``, ``tf32`` and ``bf16`` are what the factors are rounded
    to.
    """
    backends: Any = torch.backends
    if device.type == "cuda":
        products, convolutions = backends.cuda.matmul, backends.cudnn.conv
    else:
        products, convolutions = backends.mkldnn.matmul, backends.mkldnn.conv
    return f"{products.fp32_precision}, convolutions {convolutions.fp32_precision}"


def memory_format(channels_last: bool) -> torch.memory_format:
    """How the maps of images and features are laid out."""
    return torch.channels_last if channels_last else torch.contiguous_format
