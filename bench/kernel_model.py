"""The least time of a launch on a GPU, by pipe, from its tile and its machine code. No measurement.

A launch takes at least as long as its busiest pipe. Work is counted a turn of the inner loop:
instructions in the machine code, operations and bytes from the tile. What a program does before and
after its loop is left out, and so is all waiting: a measured time will be above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from gpus import GPUS
from kernel_binary import Binary
from kernel_launches import Launch

__all__ = ["SHAPES", "exponentials_per_score", "floors", "operations"]


# A clock and multiprocessor (CUDA C++ programming guide, table of arithmetic throughput).
ISSUE_SLOTS = 4
SPECIAL = 16
HALF_RATE = 64
SHARED_BYTES = 128


class Product(NamedTuple):
    """[rows, depth] x [depth, columns], a turn of the loop."""

    rows: int
    columns: int
    depth: int
    made: bool = False
    """The left operand comes from registers or tensor memory, not from shared memory."""


class Shape(NamedTuple):
    """What a kernel computes a turn of its loop."""

    loop: str
    """The block that the inner loop runs over."""
    streamed: tuple[str, ...]
    """Tensors that it reads a block of a turn."""
    products: Callable[[int, int, int, int], list[Product]]
    """Of the block's queries, keys, columns, and all columns."""


SHAPES = {
    "channel_attention._forward_kernel": Shape(
        "BLOCK_K",
        ("k_ptr", "v_ptr"),
        lambda q, k, n, every: [Product(q, k, every), Product(q, n, k, True)],
    ),
    "channel_attention_backward._d_query_kernel": Shape(
        "BLOCK_K",
        ("k_ptr", "v_ptr"),
        lambda q, k, n, every: [*[Product(q, k, every)] * 2, Product(q, n, k, True)],
    ),
    "channel_attention_backward._d_key_kernel": Shape(
        "BLOCK_Q",
        ("q_ptr", "d_out_ptr"),
        lambda q, k, n, every: [*[Product(k, q, every)] * 2, *[Product(k, n, q, True)] * 2],
    ),
    # One kernel for few positions: d_Q of a block of queries is a sum in memory.
    "channel_attention_backward_small._backward_kernel": Shape(
        "BLOCK_Q",
        ("wide_q_ptr", "wide_d_out_ptr", "d_q_sum_ptr", "d_q_sum_ptr"),
        lambda q, k, n, every: [
            *[Product(k, q, every)] * 2,
            *[Product(k, n, q, True)] * 2,
            Product(q, n, k, True),
        ],
    ),
}
"""By ``Launch.name``."""


def floors(launch: Launch, binary: Binary, capability: int) -> dict[str, float]:
    """Least microseconds by pipe, on the GPU of this capability in ``GPUS``.

    Of a kernel that is not in ``SHAPES`` only the bytes are known.
    """
    gpu = GPUS[capability]
    memory = 1e6 * launch.bytes / gpu.memory
    if launch.name not in SHAPES:
        return {"memory": memory}
    warps, loop, turns = launch.constants["num_warps"], binary.loop, _turns(launch)
    element = launch.tensors[0].element_size()
    clocks = {
        "matrix": 0.0,
        "special": warps * 32 * loop.special / SPECIAL,
        "issue": warps * loop.issued / ISSUE_SLOTS,
        "fp32": warps * 32 * loop.fp32 / gpu.fp32,
        "half rate": warps * 32 * loop.half_rate / HALF_RATE,
        "shared": warps * loop.shared_bytes / SHARED_BYTES,
    }
    if binary.unit:
        times = _times(launch)
        rate = gpu.products["half" if element == 2 else "tf32"]
        clocks["matrix"] = times * operations(launch) / 2 / turns / rate
        operands = sum(_operands(p, binary.unit) for p in _products(launch))
        clocks["shared"] += times * element * operands / SHARED_BYTES
    clock = gpu.multiprocessors * gpu.clock
    return {
        **{pipe: 1e6 * turns * work / clock for pipe, work in clocks.items()},
        "l2": 1e6 * (launch.bytes + turns * _streamed_bytes(launch)) / gpu.l2,
        "memory": memory,
    }


def operations(launch: Launch) -> float:
    """Operations of the products, padding included."""
    return 2.0 * _turns(launch) * sum(p.rows * p.columns * p.depth for p in _products(launch))


def exponentials_per_score(launch: Launch, binary: Binary) -> float:
    """Exponentials that the inner loop takes for each score; replicated work shows here."""
    named = launch.constants
    scores = named["BLOCK_Q"] * named["BLOCK_K"]
    return float(binary.loop.exponentials * 32 * named["num_warps"] / scores)


def _turns(launch: Launch) -> int:
    """Turns of the loop, of all programs: one a block of queries with a block of keys."""
    named = launch.constants
    blocks = math.prod(-(-named["D"] // named[block]) for block in ("BLOCK_Q", "BLOCK_K"))
    return int(named["q_ptr"].shape[-3] * blocks * math.prod(launch.grid[1:]))


def _products(launch: Launch) -> list[Product]:
    shape, named = SHAPES[launch.name], launch.constants
    n = sum(width for _, width in named["PARTS"]) if "PARTS" in named else named["BLOCK_N"]
    return shape.products(named["BLOCK_Q"], named["BLOCK_K"], n, -(-named["N"] // n) * n)


def _streamed_bytes(launch: Launch) -> int:
    """Bytes that a turn reads, of all columns: more than the caches nearer than L2 hold."""
    shape, named = SHAPES[launch.name], launch.constants
    streamed = [named[name] for name in shape.streamed]
    if "wide_q_ptr" in shape.streamed and named["wide_q_ptr"] is None:  # without wide copies
        streamed += [named["q_ptr"], named["d_out_ptr"]]
    tensors = [each for each in streamed if each is not None]
    row = sum(t.shape[-1] * t.element_size() for t in tensors)
    return int(named[shape.loop] * row * named.get("PIECES", 1))


def _times(launch: Launch) -> int:
    """Products of the matrix unit for one of the kernel's."""
    pieces = launch.constants.get("PIECES", 1)
    if pieces == 1:
        return 3 if launch.constants["PRECISION"] == "tf32x3" else 1
    return int(pieces * (pieces + 1) // 2)


def _operands(product: Product, unit: str) -> int:
    """Numbers that the matrix instructions themselves read from shared memory.

    HGMMA multiplies 64 rows at a time and UTCHMMA 128, each with all columns; HMMA reads registers.
    """
    if unit.startswith("HMMA"):
        return 0
    rows = 64 if unit.startswith("HGMMA") else 128
    left = 0 if product.made else product.rows * product.depth
    return left + -(-product.rows // rows) * product.columns * product.depth
