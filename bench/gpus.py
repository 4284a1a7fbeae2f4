"""GPUs by compute capability: what each does a second, by its maker's figures. No measurement."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GPUS", "Gpu"]


class Gpu(NamedTuple):
    """What a GPU does a second, and a multiprocessor a clock."""

    name: str
    multiprocessors: int
    clock: float
    """Hz, boost."""
    memory: float
    """Bytes a second."""
    l2: float
    """Bytes a second, read."""
    products: dict[str, int]
    """Multiply-adds of the matrix unit a clock and multiprocessor, by precision; dense, float32
    sums."""
    fp32: int
    """Operations on float32 numbers a clock and multiprocessor."""


# Multiprocessors, clocks, memory and matrix rates: NVIDIA's data sheets and white papers (A100 SXM
# 80 GB; H100 SXM; B200; RTX 3090, 4090, 5090), rates divided by multiprocessors and clock. fp32:
# CUDA C++ programming guide, table of arithmetic throughput. L2: 5120 bytes a clock on A100 by its
# white paper; 5.5 TB/s on H100 and 5 TB/s on RTX 4090 as chipsandcheese.com measured; for the
# others the port of a multiprocessor, 64 bytes a clock, which is more than they will reach.
GPUS = {
    80: Gpu("A100", 108, 1.41e9, 2.04e12, 7.2e12, {"half": 1024, "tf32": 512}, 64),
    86: Gpu("RTX 3090", 82, 1.695e9, 0.936e12, 8.9e12, {"half": 256, "tf32": 128}, 128),
    89: Gpu("RTX 4090", 128, 2.52e9, 1.008e12, 5.0e12, {"half": 256, "tf32": 128}, 128),
    90: Gpu("H100", 132, 1.83e9, 3.35e12, 5.5e12, {"half": 2048, "tf32": 1024}, 128),
    100: Gpu("B200", 148, 1.85e9, 8.0e12, 17.5e12, {"half": 4096, "tf32": 2048}, 128),
    120: Gpu("RTX 5090", 170, 2.407e9, 1.792e12, 26.2e12, {"half": 256, "tf32": 128}, 128),
}
"""By compute capability."""
