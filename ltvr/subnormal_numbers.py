"""Numbers below 1e-38: our commands take them for zero, as x86 CPUs are slow with them."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["take_for_zero"]


def take_for_zero() -> bool:
    """Have this thread, and those that it starts from now on, make and read no subnormal number.

    Where the attention over channels is sharp much of its gradient is that small, and an x86 CPU
    takes many times as long for a product with such a number (``bench/subnormal_numbers.py``). The
    C++ kernels do so anyway; this is for what reads their results, and for the reference.

    Returns:
        Whether the CPU can.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # kept by NumPy, which before 2.4 warns if it first looks afterwards
    return torch.set_flush_denormal(True)
