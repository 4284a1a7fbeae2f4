"""What the compiler made of a kernel: resources and instructions, from its machine code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton

__all__ = ["LIMITS", "Binary", "Limits", "inspect"]

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"

_MATRIX = re.compile(r"^(HMMA|HGMMA|UTC\w*MMA|IMMA|QGMMA)")


class Limits(NamedTuple):
    """Per multiprocessor, and of one block."""

    shared_block: int
    shared: int
    registers: int = 65536
    warps: int = 64
    blocks: int = 32


LIMITS = {80: Limits(166912, 167936), 90: Limits(232448, 233472), 100: Limits(232448, 233472)}


class Binary(NamedTuple):
    registers: int
    spilled: int
    """Bytes of stack a thread."""
    shared: int
    """Bytes a block."""
    blocks: int
    """Blocks at once on a multiprocessor."""
    occupancy: float
    """Warps at once, of the most there can be."""
    matrix: int
    """Matrix instructions of the whole kernel."""
    loop: dict[str, int]
    """Instructions of the inner loop by pipe: matrix, special (exp2 and its like), other."""


def inspect(compiled: Any, capability: int, warps: int) -> Binary:
    """Read registers, stack and instructions of a compiled Triton kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _cuobjdump("-res-usage", file.name)
        instructions = _instructions(_cuobjdump("-sass", file.name))
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    registers, spilled = int(found[1]), int(found[2])
    shared = compiled.metadata.shared
    blocks = _blocks(LIMITS[capability], registers, shared, warps)
    return Binary(
        registers,
        spilled,
        shared,
        blocks,
        blocks * warps / LIMITS[capability].warps,
        sum(bool(_MATRIX.match(name)) for _, name, _ in instructions),
        _by_pipe(_inner_loop(instructions)),
    )


def _cuobjdump(flag: str, path: str) -> str:
    run = subprocess.run([CUOBJDUMP, flag, path], capture_output=True, text=True, check=True)
    return run.stdout


def _blocks(limits: Limits, registers: int, shared: int, warps: int) -> int:
    """Blocks that fit: registers come in units of 8 a thread, a block reserves 1 KB of shared."""
    by_registers = limits.registers // (32 * warps * -(-registers // 8) * 8)
    return min(by_registers, limits.shared // (shared + 1024), limits.warps // warps, limits.blocks)


def _instructions(sass: str) -> list[tuple[int, str, int | None]]:
    """Address, name, and where a branch goes."""
    line = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)([^;]*);", re.M)
    found = []
    for address, name, rest in line.findall(sass):
        target = re.search(r"0x([0-9a-f]+)\s*$", rest) if name == "BRA" else None
        found.append((int(address, 16), name, int(target[1], 16) if target else None))
    return found


def _inner_loop(instructions: list[tuple[int, str, int | None]]) -> list[str]:
    """The loop with most matrix instructions, and of those the shortest; without one, all."""
    loops = [
        [name for at, name, _ in instructions if target <= at <= end]
        for end, _, target in instructions
        if target is not None and target < end
    ]
    everything = [name for _, name, _ in instructions]
    return max(
        loops, key=lambda names: (_by_pipe(names)["matrix"], -len(names)), default=everything
    )


def _by_pipe(names: list[str]) -> dict[str, int]:
    matrix = sum(bool(_MATRIX.match(name)) for name in names)
    special = sum(name == "MUFU" for name in names)
    return {"matrix": matrix, "special": special, "other": len(names) - matrix - special}
