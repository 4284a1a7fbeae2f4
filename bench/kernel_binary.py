"""What the compiler made of a kernel: resources and instructions, from its machine code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton

__all__ = ["LIMITS", "Binary", "Limits", "Loop", "inspect"]

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"

_MATRIX = re.compile(r"^(HMMA|HGMMA|UTC\w*MMA|IMMA|QGMMA)$")
_FP32 = re.compile(r"^(FFMA|FADD|FMUL)(2?)$")
_HALF_RATE = re.compile(r"^(FMNMX3?|F2FP|FSEL|FSETP)$")
# Bytes that a warp moves to or from shared memory. LDSM reads 128 bytes a matrix.
_SHARED = re.compile(r"^(LDS|STS|LDGSTS|LDSM|STSM)$")


class Limits(NamedTuple):
    """Per multiprocessor, and of one block (CUDA C++ programming guide, compute capabilities)."""

    shared_block: int
    shared: int
    warps: int
    blocks: int
    registers: int = 65536


LIMITS = {
    80: Limits(166912, 167936, 64, 32),
    86: Limits(101376, 102400, 48, 16),
    87: Limits(166912, 167936, 48, 16),
    89: Limits(101376, 102400, 48, 24),
    90: Limits(232448, 233472, 64, 32),
    100: Limits(232448, 233472, 64, 32),
    103: Limits(232448, 233472, 64, 32),
    110: Limits(232448, 233472, 48, 24),
    120: Limits(101376, 102400, 48, 24),
    121: Limits(101376, 102400, 48, 24),
}


class Loop(NamedTuple):
    """One turn of the inner loop, a warp: instructions, all and by pipe, and bytes.

    A program that holds no loop is taken as one turn.
    """

    issued: int
    matrix: int
    exponentials: int
    """MUFU.EX2."""
    special: int
    """All of the special function unit, exponentials included."""
    fp32: int
    """Multiply-adds, additions and products; those of two numbers count twice."""
    half_rate: int
    """Minima, packs and selections, which run at half the rate."""
    shared_bytes: int
    """By loads and stores; matrix instructions read their operands besides."""


class Binary(NamedTuple):
    registers: int
    spilled: int
    """Bytes of stack a thread."""
    shared: int
    """Bytes a block."""
    tensor_memory: int
    """Columns a block; a multiprocessor has 512, and only from sm_100 to sm_110."""
    blocks: int
    """Blocks at once on a multiprocessor."""
    occupancy: float
    """Warps at once, of the most there can be."""
    unit: str
    """The matrix instruction: HMMA, HGMMA, UTCHMMA and their like; empty where there is none."""
    loop: Loop


class _Instruction(NamedTuple):
    address: int
    name: str
    modifiers: str
    target: int | None
    """Where a branch goes."""


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
        getattr(compiled.metadata, "tmem_size", 0) or 0,
        blocks,
        blocks * warps / LIMITS[capability].warps,
        " ".join(sorted({i.name for i in instructions if _MATRIX.match(i.name)})),
        _count(_inner_loop(instructions)),
    )


def _cuobjdump(flag: str, path: str) -> str:
    run = subprocess.run([CUOBJDUMP, flag, path], capture_output=True, text=True, check=True)
    return run.stdout


def _blocks(limits: Limits, registers: int, shared: int, warps: int) -> int:
    """Blocks that fit: registers come in units of 8 a thread, a block reserves 1 KB of shared."""
    by_registers = limits.registers // (32 * warps * -(-registers // 8) * 8)
    return min(by_registers, limits.shared // (shared + 1024), limits.warps // warps, limits.blocks)


def _instructions(sass: str) -> list[_Instruction]:
    line = re.compile(
        r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)([.A-Z0-9_]*)([^;]*);", re.M
    )
    found = []
    for address, name, modifiers, operands in line.findall(sass):
        target = re.search(r"0x([0-9a-f]+)\s*$", operands) if name == "BRA" else None
        to = int(target[1], 16) if target else None
        found.append(_Instruction(int(address, 16), name, modifiers, to))
    return found


def _inner_loop(instructions: list[_Instruction]) -> list[_Instruction]:
    """The loop with most matrix instructions and exponentials, of those the shortest; or all.

    A branch back over the end of the program closes no loop: it returns from code that the compiler
    has put behind the end, such as the wait for a barrier that was not passed at once.
    """
    loops = []
    for at, end in enumerate(instructions):
        if end.target is not None and end.target < end.address:
            body = [i for i in instructions[: at + 1] if i.address >= end.target]
            if all(i.name != "EXIT" for i in body):
                loops.append(body)
    return max(
        loops,
        key=lambda body: (_matrix(body), _exponentials(body), -len(body)),
        default=instructions,
    )


def _matrix(body: list[_Instruction]) -> int:
    return sum(bool(_MATRIX.match(i.name)) for i in body)


def _exponentials(body: list[_Instruction]) -> int:
    return sum(i.name == "MUFU" and ".EX2" in i.modifiers for i in body)


def _count(body: list[_Instruction]) -> Loop:
    fp32 = [found for i in body if (found := _FP32.match(i.name))]
    return Loop(
        issued=len(body),
        matrix=_matrix(body),
        exponentials=_exponentials(body),
        special=sum(i.name == "MUFU" for i in body),
        fp32=sum(2 if found[2] else 1 for found in fp32),
        half_rate=sum(bool(_HALF_RATE.match(i.name)) for i in body),
        shared_bytes=sum(_shared_bytes(i) for i in body if _SHARED.match(i.name)),
    )


def _shared_bytes(instruction: _Instruction) -> int:
    """Bytes that a whole warp moves."""
    if instruction.name in ("LDSM", "STSM"):  # matrices of 8 rows of 16 bytes
        matrices = re.search(r"\.M[T]?88\.?(\d?)", instruction.modifiers)
        return 128 * int(matrices[1] or 1) if matrices else 128
    bits = re.search(r"\.(?:U|S)?(8|16|64|128)\b", instruction.modifiers)
    return 32 * (int(bits[1]) if bits else 32) // 8
