"""What the compiler makes of every Triton launch of a training step, without a GPU.

    python bench/kernel_report.py [--arch 80 86 89 90 100 120] [--map 2x2 4x4 7x7 8x8 12x12 14x14
                                  16x16] [--dtype bf16 fp16 fp32 tf32 ieee]
                                  [--mask-axis spatial channel] [--projection linear conv1x1]
                                  [--only DTYPE/MAP/ARCH ...] [--jobs 2] [--json FILE]
    python bench/kernel_report.py --outdated FILE

For AFA in a ResNeXt-50, by default under bfloat16 autocast: registers, spills, shared memory,
occupancy, the instructions of the inner loop, exponentials a score, and the least time that the
launch takes on a GPU of each architecture, by the pipe that binds (``kernel_model.py``). Then the
bytes that the module moves in a step, eager and fused. All is arithmetic, not measurement.

``--outdated`` compiles nothing: it names the steps of a kept FILE that launch other kernels today,
or others of their tiles, shapes or grids; the status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections import defaultdict
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from gpus import GPUS
from kernel_binary import LIMITS, inspect
from kernel_launches import DTYPES, Case, Launch, Setting, Traffic, afa_traffic, record_step
from kernel_model import SHAPES, exponentials_per_score, floors, operations
from ltvr.runs.environment import environment

CASES = {
    "2x2": Case("32 px, imagenet stem", 32, "imagenet", 256),
    "4x4": Case("64 px", 64, "imagenet", 256),
    "7x7": Case("112 px", 112, "imagenet", 256),
    "8x8": Case("32 px, cifar stem", 32, "cifar", 256),
    "12x12": Case("192 px", 192, "imagenet", 64),
    "14x14": Case("224 px", 224, "imagenet", 64),
    "16x16": Case("256 px", 256, "imagenet", 64),
}
"""By the feature map that AFA sees."""


def constants_of(launch: Launch) -> dict[str, Any]:
    """What a launch is compiled for: shapes, tiles, warps, stages and the like."""
    return {k: v for k, v in launch.constants.items() if isinstance(v, (int, str, tuple))}


def describe(launch: Launch, capability: int) -> dict[str, Any]:
    """One row of the report."""
    binary = inspect(launch.compile(capability), capability, launch.options["num_warps"])
    dot = launch.name in SHAPES
    times = floors(launch, binary, capability)
    return {
        "kernel": launch.name,
        "arch": capability,
        "grid": launch.grid,
        "constants": constants_of(launch),
        "dot": dot,
        **binary._asdict(),
        "loop": binary.loop._asdict(),
        "shared_limit": LIMITS[capability].shared_block,
        "exponentials_per_score": round(exponentials_per_score(launch, binary), 3) if dot else None,
        "bytes": launch.bytes,
        "operations": operations(launch) if dot else 0.0,
        "floor_us": {pipe: round(us, 1) for pipe, us in times.items()},
        "binds": max(times, key=lambda pipe: times[pipe]),
    }


HEADER = (
    f"{'kernel':44}{'GPU':>9}{'tile':>20}{'warps':>6}{'regs':>5}{'spill':>6}{'shared/limit':>14}"
    f"{'occ.':>6}{'unit':>9}{'loop':>6}{'exp':>6}{'MB':>6}{'floor us':>9}  by"
)


def tile(constants: dict[str, Any]) -> str:
    """The blocks of a launch, its columns in parts, as ``64x64x128+64+16``."""
    names = ("BLOCK_Q", "BLOCK_K", "BLOCK_D", "BLOCK_N")
    blocks = [str(constants[name]) for name in names if name in constants]
    if "PARTS" in constants:
        blocks.append("+".join(str(width) for _, width in constants["PARTS"]))
    return "x".join(blocks)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    c, score = row["constants"], row["exponentials_per_score"]
    return (
        f"{row['kernel']:44}{GPUS[row['arch']].name:>9}{tile(c):>20}{c['num_warps']:>6}"
        f"{row['registers']:>5}{row['spilled']:>6}"
        f"{row['shared']:>7}/{row['shared_limit']:<6}{row['occupancy']:>6.0%}"
        f"{row['unit']:>9}{row['loop']['issued']:>6}{'' if score is None else f'{score:.2f}':>6}"
        f"{row['bytes'] / 1e6:>6.0f}{row['floor_us'][row['binds']]:>9.1f}  {row['binds']}"
    )


def rows(case: Case, setting: Setting, architecture: int) -> list[dict[str, Any]]:
    """Record a training step and compile its launches."""
    launches = record_step(case, setting, architecture)
    return [describe(launch, architecture) for launch in launches]


class Step:
    """A training step whose launches compile in other processes."""

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        name: str,
        setting: Setting,
        architectures: list[int],
        count_traffic: bool,
    ) -> None:
        self.name, self.case, self.setting = name, CASES[name], setting
        self.rows: list[Future[list[dict[str, Any]]]] = [
            pool.submit(rows, self.case, setting, architecture) for architecture in architectures
        ]
        self.traffic: list[Future[Traffic]] = [
            pool.submit(afa_traffic, self.case, setting, backend)
            for backend in (("reference", "triton") if count_traffic else ())
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
        found = {
            "map": self.name,
            "case": self.case._asdict(),
            "setting": self.setting._asdict(),
            "launches": launches,
        }
        if not self.traffic:
            return found
        eager, fused = (future.result() for future in self.traffic)
        launched = sum(row["bytes"] for row in self.rows[0].result())
        print(
            f"AFA moves {eager.bytes / 1e9:.2f} GB a step eager, {fused.bytes / 1e9:.2f} GB fused "
            f"({launched / 1e9:.2f} GB in these launches): {fused.bytes / eager.bytes:.3f}; "
            f"{fused.launches} launches, {fused.passes} passes over features fused, "
            f"{fused.attention_passes} of them in the attention"
        )
        counted = {"eager": eager._asdict(), "fused": fused._asdict()}
        return {**found, **counted, "ratio": round(fused.bytes / eager.bytes, 4)}


def write(path: Path, architectures: list[int], reports: list[dict[str, Any]]) -> None:
    """Write the results, a line each launch."""
    found = {
        "benchmark": "kernel_report",
        "command": " ".join(["python bench/kernel_report.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        **environment(torch.device("cpu")),
        "gpus": {f"sm_{a}": GPUS[a].name for a in architectures},
    }
    lines = []
    for report in reports:
        launches = ",\n  ".join(json.dumps(row) for row in report.pop("launches"))
        lines.append(f'{json.dumps(report)[:-1]}, "launches": [\n  {launches}]}}')
    body = ",\n ".join(lines)
    path.write_text(f'{json.dumps(found)[:-1]},\n"steps": [\n {body}]}}\n')


def outdated(path: Path) -> list[str]:
    """The steps of a kept report, as ``--only`` names them, that launch something else today."""
    try:
        steps = json.loads(path.read_text())["steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} is no report that --json wrote ({error!r})")
    found = []
    for step in steps:
        setting, kept = Setting(**step["setting"]), defaultdict(list)
        for row in step["launches"]:
            kept[row["arch"]].append([row["kernel"], row["grid"], row["constants"]])
        for architecture, launches in kept.items():
            recorded = record_step(CASES[step["map"]], setting, architecture)
            today = [(launch.name, launch.grid, constants_of(launch)) for launch in recorded]
            if json.loads(json.dumps(today)) != launches:
                found.append(f"{setting.dtype}/{step['map']}/{architecture}")
    return found


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
    parser.add_argument("--arch", type=int, nargs="+", choices=list(GPUS), default=list(GPUS))
    parser.add_argument("--only", nargs="+", metavar="DTYPE/MAP/ARCH", help="these launches alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--outdated", type=Path, metavar="FILE", help="what FILE is too old for")
    options = parser.parse_args()
    if options.outdated:
        sys.exit(" ".join(outdated(options.outdated)) or None)
    wanted: dict[tuple[str, str], list[int]] = defaultdict(list)
    for dtype, name in itertools.product(options.dtype, options.map):
        wanted[dtype, name] = options.arch
    if options.only:
        wanted.clear()
        for case in options.only:
            dtype, name, architecture = case.split("/")
            wanted[dtype, name].append(int(architecture))
    how = list(itertools.product(options.mask_axis, options.projection))
    with ProcessPoolExecutor(options.jobs) as pool:
        steps = [
            Step(pool, name, Setting(dtype, *rest), architectures, not options.only)
            for rest in how
            for (dtype, name), architectures in wanted.items()
        ]
        reports = [step.report() for step in steps]
    if options.json:
        write(options.json, sorted({a for found in wanted.values() for a in found}), reports)


if __name__ == "__main__":
    main()
