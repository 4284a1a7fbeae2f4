"""What the compiler makes of every Triton launch of a training step, without a GPU.

    python bench/kernel_report.py [--arch 80 90 100] [--mask-axis spatial channel]
                                  [--map 2x2 8x8 14x14] [--json FILE]

For ResNeXt-50 with AFA at 32 px (both stems) and at 224 px, under bfloat16 autocast: registers,
spills, shared memory, occupancy, matrix instructions, instructions of the inner loop by pipe, and
the least time that the launch's bytes, products and exponentials take on an A100 and an H100. Then
the bytes that the module moves in a step, eager and fused. Floors are arithmetic, not measurements.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from kernel_binary import LIMITS, inspect
from kernel_launches import Case, Launch, afa_bytes, record_step

CASES = {
    "2x2": Case("32 px, imagenet stem", 32, "imagenet", 256),
    "8x8": Case("32 px, cifar stem", 32, "cifar", 256),
    "14x14": Case("224 px", 224, "imagenet", 64),
}
"""By the feature map that AFA sees."""


class Gpu(NamedTuple):
    """Peak rates a second: bytes, bfloat16 operations of the matrix unit, exponentials."""

    memory: float
    matrix: float
    exponentials: float


# Data sheets of the SXM parts; 16 exponentials a clock and multiprocessor.
GPUS = {
    "A100": Gpu(2.04e12, 312e12, 108 * 16 * 1.41e9),
    "H100": Gpu(3.35e12, 989e12, 132 * 16 * 1.83e9),
}

# Products of D x D x N multiply-adds a sample in each kernel; one exponential a score.
PRODUCTS = {"_forward_kernel": 2, "_d_query_kernel": 3, "_d_key_kernel": 4}


def work(launch: Launch) -> tuple[float, float]:
    """Operations of the matrix unit, padding included, and exponentials."""
    named = launch.constants
    channels, positions = named["D"], named["N"]
    if "BLOCK_Q" in named:
        scores = named["q_ptr"].shape[0] * channels * channels
        chunks = -(-positions // named["BLOCK_N"])
        products = PRODUCTS[launch.kernel.__name__]
        repeated = 1 if launch.kernel.__name__ == "_forward_kernel" else 2  # made by every chunk
        per_score = (repeated * chunks + products - repeated) * chunks * named["BLOCK_N"]
        return 2.0 * scores * per_score, float(scores * chunks)
    tensors = {name: t for name, t in named.items() if isinstance(t, Tensor)}
    masks = tensors["v_ptr" if "v_ptr" in tensors else "x_att_ptr"].shape[0]
    if "class_index_ptr" in tensors:  # two masks a generated row
        masks += 2 * tensors["class_index_ptr"].shape[0]
    return 0.0, float(masks * channels * positions)


def floor(launch: Launch, gpu: Gpu) -> float:
    """Least microseconds: the slowest of memory, matrix unit and special function unit."""
    operations, exponentials = work(launch)
    return 1e6 * max(
        launch.bytes / gpu.memory,
        operations / gpu.matrix,
        exponentials / gpu.exponentials,
    )


def describe(launch: Launch, capability: int) -> dict[str, Any]:
    """One row of the report."""
    warps = launch.options["num_warps"]
    binary = inspect(launch.compile(capability), capability, warps)
    operations, exponentials = work(launch)
    constants = {k: v for k, v in launch.constants.items() if isinstance(v, (int, float, str))}
    return {
        "kernel": f"{launch.kernel.__module__.rpartition('.')[2]}.{launch.kernel.__name__}",
        "arch": capability,
        "grid": launch.grid,
        "constants": constants,
        "dtypes": [str(t.dtype).removeprefix("torch.") for t in launch.tensors],
        "dot": "BLOCK_Q" in constants,
        **binary._asdict(),
        "shared_limit": LIMITS[capability].shared_block,
        "bytes": launch.bytes,
        "operations": operations,
        "exponentials": exponentials,
        "floor_us": {name: round(floor(launch, gpu), 1) for name, gpu in GPUS.items()},
    }


HEADER = (
    f"{'kernel':38}{'arch':>5}{'tile':>14}{'warps':>6}{'regs':>5}{'spill':>6}{'shared':>8}"
    f"{'occ.':>6}{'mma':>5}{'loop mma/exp/other':>20}{'MB':>7}{'GFLOP':>7}"
    f"{'A100 us':>9}{'H100 us':>9}"
)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    c = row["constants"]
    blocks = [c[k] for k in ("BLOCK_Q", "BLOCK_K", "BLOCK_D", "BLOCK_N") if k in c]
    loop = "/".join(str(row["loop"][pipe]) for pipe in ("matrix", "special", "other"))
    return (
        f"{row['kernel']:38}{row['arch']:>5}{'x'.join(map(str, blocks)):>14}{c['num_warps']:>6}"
        f"{row['registers']:>5}{row['spilled']:>6}{row['shared']:>8}{row['occupancy']:>6.0%}"
        f"{row['matrix']:>5}{loop:>20}{row['bytes'] / 1e6:>7.0f}{row['operations'] / 1e9:>7.0f}"
        f"{row['floor_us']['A100']:>9.1f}{row['floor_us']['H100']:>9.1f}"
    )


def report(case: Case, mask_axis: str, architectures: list[int]) -> dict[str, Any]:
    """Compile and print all launches of one training step."""
    recorded = {arch: record_step(case, arch, mask_axis) for arch in architectures}
    shape = list(recorded[architectures[0]][0].tensors[0].shape)
    print(f"\n{case.name}: {shape} bfloat16, mask over {mask_axis}\n{HEADER}")
    rows = []
    for arch, launches in recorded.items():
        for launch in launches:
            rows.append(describe(launch, arch))
            print(line(rows[-1]), flush=True)
    eager, fused = (afa_bytes(case, name, mask_axis) for name in ("reference", "triton"))
    launched = sum(launch.bytes for launch in recorded[architectures[0]])
    print(
        f"AFA moves {eager / 1e9:.2f} GB a step eager, {fused / 1e9:.2f} GB fused "
        f"({launched / 1e9:.2f} GB in these launches): {fused / eager:.3f}"
    )
    return {
        "case": case._asdict(),
        "mask_axis": mask_axis,
        "launches": rows,
        "eager_bytes": eager,
        "fused_bytes": fused,
        "ratio": fused / eager,
    }


def main() -> None:
    """Print the tables; write them with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", type=int, nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument(
        "--mask-axis", nargs="+", choices=["spatial", "channel"], default=["spatial"]
    )
    parser.add_argument("--map", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    reports = [
        report(CASES[name], axis, arguments.arch)
        for axis in arguments.mask_axis
        for name in arguments.map
    ]
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=1))


if __name__ == "__main__":
    main()
