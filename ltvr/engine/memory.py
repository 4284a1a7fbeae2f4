"""Memory of a device: how much there is, and the most that was in use."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

import torch

__all__ = ["capacity", "most_used", "start_measuring"]

PROCESS = Path("/proc/self")
"""What Linux tells of this process."""


def capacity(device: torch.device) -> int:
    """Bytes that a device, or this machine, has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def start_measuring(device: torch.device) -> None:
    """Let ``most_used`` count from now on; where only Linux can, it counts from the start."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # or what was freed before would count: glibc keeps it
    if (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")  # resets the high-water mark: proc(5)


def most_used(device: torch.device) -> int:
    """The most bytes that were in use: by tensors of a GPU, or by this whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (PROCESS / "status").exists():
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
