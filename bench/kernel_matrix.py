"""Every Triton launch for every GPU, precision and map, a line each; without a GPU.

    python bench/kernel_matrix.py FILE.csv [--arch 80 86 89 90 100 120] [--dtype bf16 fp16 fp32 tf32
                                  ieee] [--map 2x2 4x4 7x7 8x8 12x12 14x14 16x16]
                                  [--mask-axis spatial] [--projection linear] [--jobs 2]

``kernel_report.py`` for all of them: some 3,000 launches, an hour of a core. The lines of a step
are added to FILE as soon as it is compiled, and steps that are in FILE are not compiled again, so
that it can be made in pieces. Then FILE is summed up; the status is 1 if a launch would fail.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpus import GPUS
from kernel_binary import LIMITS
from kernel_launches import DTYPES, Setting
from kernel_report import CASES, rows, tile
from ltvr.runs.environment import environment

COLUMNS = (
    *("dtype", "map", "arch", "mask_axis", "projection", "kernel", "tile", "warps", "stages"),
    *("registers", "spilled", "shared", "tensor_memory", "blocks", "unit"),
    *("issued", "matrix", "special", "fp32", "half_rate", "shared_bytes"),
    *("exponentials", "floor_us", "binds"),
)
"""A thread: registers, bytes spilled to the stack. A block: bytes of shared memory, columns of
tensor memory. A multiprocessor: blocks at once. A turn of the inner loop, a warp: instructions, all
and by pipe, bytes of shared memory. Exponentials a score. The least microseconds, by the pipe that
binds (``kernel_model.py``)."""

TENSOR_MEMORY = 512
"""Columns of a multiprocessor."""


class Step(NamedTuple):
    """A training step on a GPU; its first columns."""

    dtype: str
    map: str
    arch: str
    mask_axis: str
    projection: str

    def compile(self) -> list[str]:
        """The lines of its launches."""
        setting = Setting(self.dtype, self.mask_axis, self.projection)
        launches = rows(CASES[self.map], setting, int(self.arch))
        return [",".join((*self, *map(str, _cells(launch)))) for launch in launches]


def _cells(launch: dict[str, Any]) -> list[Any]:
    """A row of the report in the order of ``COLUMNS``, from ``kernel`` on."""
    constants, score = launch["constants"], launch["exponentials_per_score"]
    resources = ("registers", "spilled", "shared", "tensor_memory", "blocks", "unit")
    pipes = ("issued", "matrix", "special", "fp32", "half_rate", "shared_bytes")
    return [
        *(launch["kernel"], tile(constants), constants["num_warps"]),
        constants.get("num_stages", ""),
        *(launch[name] for name in resources),
        *(launch["loop"][name] for name in pipes),
        *("" if score is None else score, launch["floor_us"][launch["binds"]], launch["binds"]),
    ]


def read(path: Path) -> list[dict[str, str]]:
    """All rows of a file; its first line says how it was made."""
    return list(csv.DictReader(path.read_text().splitlines()[1:]))


def step_of(row: dict[str, str]) -> Step:
    """The step that a row is of."""
    return Step(*(row[name] for name in Step._fields))


def begin(path: Path) -> None:
    """Write the lines that are above the rows."""
    made = environment(torch.device("cpu"))
    versions = ", ".join(f"{package} {made[package]}" for package in ("torch", "triton"))
    command = " ".join(["python bench/kernel_matrix.py", *sys.argv[1:]])
    about = f"# {command} ({time.strftime('%Y-%m-%d')}, {versions})"
    path.write_text(f"{about}\n{','.join(COLUMNS)}\n")


def fits(row: dict[str, str]) -> bool:
    """Whether the GPU has the shared and the tensor memory that a launch asks for."""
    limit = LIMITS[int(row["arch"])].shared_block
    return int(row["shared"]) <= limit and int(row["tensor_memory"]) <= TENSOR_MEMORY


def sum_up(path: Path) -> bool:
    """Print what there is to say of a file; return whether every launch fits its GPU."""
    found = read(path)
    failing = [row for row in found if not fits(row)]
    spilling = [row for row in found if int(row["spilled"])]
    for what, those in (("does not fit", failing), ("spills", spilling)):
        for row in those:
            print(what, *step_of(row), *(row[k] for k in ("kernel", "tile", "spilled", "shared")))
    print(
        f"{len(found)} launches of {len(set(map(step_of, found)))} steps: {len(failing)} do not "
        f"fit, {len(spilling)} spill"
    )
    return not failing


def main() -> None:
    """Compile what is not in the file, and sum it up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    architectures = list(map(str, GPUS))
    for option, choices, default in (
        ("--dtype", list(DTYPES), list(DTYPES)),
        ("--map", list(CASES), list(CASES)),
        ("--arch", architectures, architectures),
        ("--mask-axis", ["spatial", "channel"], ["spatial"]),
        ("--projection", ["linear", "conv1x1"], ["linear"]),
    ):
        parser.add_argument(option, nargs="+", choices=choices, default=default)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that compile")
    options = parser.parse_args()
    if not options.file.exists():
        begin(options.file)
    there = set(map(step_of, read(options.file)))
    wanted = itertools.product(*(getattr(options, name) for name in Step._fields))
    with ProcessPoolExecutor(options.jobs) as pool:
        steps = [step for step in itertools.starmap(Step, wanted) if step not in there]
        for lines in pool.map(Step.compile, steps):
            with options.file.open("a") as file:
                file.write("".join(f"{line}\n" for line in lines))
    if not sum_up(options.file):
        sys.exit(1)


if __name__ == "__main__":
    main()
