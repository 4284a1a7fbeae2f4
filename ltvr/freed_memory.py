"""What glibc does with memory that is freed: our commands keep it, their workers give it back."""

from __future__ import annotations

import ctypes
import os

__all__ = ["give_back", "keep"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of glibc's ``mallopt``."""
SAID_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
"""Variables that set them; so may ``GLIBC_TUNABLES``."""
NEVER = -1
"""A threshold that no amount reaches."""
LARGE = 2**20
"""Bytes of a block that a worker gives back as soon as it is free."""
BLOCKS = 2**16
"""How many blocks may be mapped by themselves: glibc's own number."""


def keep() -> bool:
    """Have the next step of a training take the memory that the last one freed, where it can.

    By itself glibc returns every large block to the system, which then clears its pages anew for
    each step: a quarter of the time of large images on a CPU (``bench/kept_memory.py``). What the
    user says in the environment counts instead. Without glibc nothing changes.

    Returns:
        Whether it is kept by this.
    """
    if any(name in os.environ for name in SAID_BY_USER):
        return False
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    return _set(mapped=0, trim=NEVER)


def give_back() -> None:
    """Have what is freed leave this process, in one that reads images.

    Left to itself, glibc comes to take large blocks from the heap as well, which cannot shrink
    below the last block in use: a worker of 140 MB grew by 30 MB a pass.
    """
    _set(mapped=BLOCKS, trim=16 * LARGE)


def _set(mapped: int, trim: int) -> bool:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    values = {M_MMAP_MAX: mapped, M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: trim}
    taken = [libc.mallopt(parameter, value) for parameter, value in values.items()]
    return all(taken)
