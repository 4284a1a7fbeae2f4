"""What the compiler makes of every Triton launch of a training step, without a GPU.

    python bench/kernel_report.py [--arch 80 90 100] [--map 2x2 7x7 8x8 14x14]
                                  [--dtype bf16 fp16 fp32 tf32] [--mask-axis spatial channel]
                                  [--projection linear conv1x1] [--jobs 2] [--json FILE]

For ResNeXt-50 with AFA at 32 px (both stems), 112 px and 224 px, by default under bfloat16
autocast: registers, spills, shared memory, occupancy, matrix instructions, instructions of the
inner loop by pipe, and the least time that the launch's bytes, products and exponentials take on an
A100 and an H100. Then the bytes that the module moves in a step, eager and fused. Floors are
arithmetic, not measurements.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernel_binary import LIMITS, inspect
from kernel_launches import DTYPES, Case, Launch, Setting, Traffic, afa_traffic, record_step
from ltvr.runs.environment import environment

CASES = {
    "2x2": Case("32 px, imagenet stem", 32, "imagenet", 256),
    "7x7": Case("112 px", 112, "imagenet", 256),
    "8x8": Case("32 px, cifar stem", 32, "cifar", 256),
    "14x14": Case("224 px", 224, "imagenet", 64),
}
"""By the feature map that AFA sees."""


class Gpu(NamedTuple):
    """Peak rates a second: bytes, operations of a product by its precision, exponentials."""

    memory: float
    products: dict[str, float]
    exponentials: float


# Data sheets of the SXM parts; 16 exponentials a clock and multiprocessor.
GPUS = {
    "A100": Gpu(2.04e12, {"half": 312e12, "tf32": 156e12, "ieee": 19.5e12}, 108 * 16 * 1.41e9),
    "H100": Gpu(3.35e12, {"half": 989e12, "tf32": 494e12, "ieee": 67e12}, 132 * 16 * 1.83e9),
}

# Products of D x D x N multiply-adds a sample in each kernel; one exponential a score.
PRODUCTS = {"_forward_kernel": 2, "_d_query_kernel": 3, "_d_key_kernel": 4}


def work(launch: Launch) -> tuple[float, float]:
    """Operations of the products, padding included, and exponentials."""
    named = launch.constants
    if not {"BLOCK_Q", "v_ptr", "x_att_ptr"} & named.keys():
        return 0.0, 0.0  # without exponentials, and with no product that counts beside its bytes
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
    """Least microseconds: the slowest of memory, products and special function unit."""
    operations, exponentials = work(launch)
    half = launch.tensors[0].element_size() == 2
    precision = "half" if half else launch.constants.get("PRECISION", "ieee")
    return 1e6 * max(
        launch.bytes / gpu.memory,
        operations / gpu.products[precision],
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
    f"{'kernel':38}{'arch':>5}{'tile':>14}{'warps':>6}{'regs':>5}{'spill':>6}{'shared/limit':>14}"
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
        f"{row['registers']:>5}{row['spilled']:>6}"
        f"{row['shared']:>7}/{row['shared_limit']:<6}{row['occupancy']:>6.0%}"
        f"{row['matrix']:>5}{loop:>20}{row['bytes'] / 1e6:>7.0f}{row['operations'] / 1e9:>7.0f}"
        f"{row['floor_us']['A100']:>9.1f}{row['floor_us']['H100']:>9.1f}"
    )


def rows(case: Case, setting: Setting, architecture: int) -> list[dict[str, Any]]:
    """Record a training step and compile its launches."""
    launches = record_step(case, setting, architecture)
    return [describe(launch, architecture) for launch in launches]


class Step:
    """A training step whose launches compile in other processes."""

    def __init__(
        self, pool: ProcessPoolExecutor, name: str, setting: Setting, architectures: list[int]
    ) -> None:
        self.name, self.case, self.setting = name, CASES[name], setting
        self.rows: list[Future[list[dict[str, Any]]]] = [
            pool.submit(rows, self.case, setting, architecture) for architecture in architectures
        ]
        self.traffic: list[Future[Traffic]] = [
            pool.submit(afa_traffic, self.case, setting, backend)
            for backend in ("reference", "triton")
        ]

    def report(self) -> dict[str, Any]:
        """Print all launches as they are done; return what is known of the step."""
        print(f"\n{self.case.name}: map {self.name}, batch {self.case.batch}, ", end="")
        print(f"{self.setting.dtype}, mask {self.setting.mask_axis}, {self.setting.projection}")
        print(HEADER)
        launches = []
        for future in self.rows:
            for row in future.result():
                launches.append(row)
                print(line(row), flush=True)
        eager, fused = (future.result() for future in self.traffic)
        launched = sum(row["bytes"] for row in self.rows[0].result())
        print(
            f"AFA moves {eager.bytes / 1e9:.2f} GB a step eager, {fused.bytes / 1e9:.2f} GB fused "
            f"({launched / 1e9:.2f} GB in these launches): {fused.bytes / eager.bytes:.3f}; "
            f"{fused.launches} launches, {fused.passes} passes over features fused, "
            f"{fused.attention_passes} of them in the attention"
        )
        return {
            "map": self.name,
            "case": self.case._asdict(),
            "setting": self.setting._asdict(),
            "eager": eager._asdict(),
            "fused": fused._asdict(),
            "ratio": round(fused.bytes / eager.bytes, 4),
            "launches": launches,
        }


def main() -> None:
    """Print the tables; write them with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for option, choices, default in (
        ("--map", list(CASES), list(CASES)),
        ("--dtype", list(DTYPES), ["bf16"]),
        ("--mask-axis", ["spatial", "channel"], ["spatial"]),
        ("--projection", ["linear", "conv1x1"], ["linear"]),
    ):
        parser.add_argument(option, nargs="+", choices=choices, default=default)
    parser.add_argument("--arch", type=int, nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args()
    settings = itertools.product(options.dtype, options.mask_axis, options.projection, options.map)
    with ProcessPoolExecutor(options.jobs) as pool:
        steps = [Step(pool, name, Setting(*rest), options.arch) for *rest, name in settings]
        reports = [step.report() for step in steps]
    if options.json:
        found = {
            "benchmark": "kernel_report",
            "command": " ".join(["python bench/kernel_report.py", *sys.argv[1:]]),
            "date": time.strftime("%Y-%m-%d"),
            **environment(torch.device("cpu")),
            "compiled_for": [f"sm_{architecture}" for architecture in options.arch],
            "steps": reports,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
