"""From the host to the device, without a wait for either."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["to_device"]


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy ``tensor`` to ``device``; from the host to a GPU by way of page-locked memory.

    A copy from pageable memory would make the host wait for all that the GPU has still to do.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
