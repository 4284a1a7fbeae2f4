"""What a training step on a CPU gains where freed memory is kept, and how much more it then takes.

A command has glibc keep what is freed (``ltvr.freed_memory``). This takes steps of ResNeXt-50 with
and without, in processes of their own, in turn::

    python bench/kept_memory.py --out bench/results/kept_memory.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from cpu_rows import write_rows
from ltvr import freed_memory
from train_step import training_step

STEPS = [("baseline", "14x14", 32), ("ltvr fused", "14x14", 32), ("baseline", "8x8", 32)]
"""Variant, map of AFA and batch size, as of ``train_step``: images of 224 and of 32 pixels."""
WARM_UP, TIMED = 2, 4


def measure(variant: str, case: str, batch: int) -> dict[str, float]:
    """Images a second, the most memory, and what the system took of the time, in this process."""
    step = training_step(variant, case, batch, torch.float32, torch.device("cpu"))
    for number in range(WARM_UP + TIMED):
        if number == WARM_UP:
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        step.backward(step.forward())
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    return {
        "images_per_second": round(batch * TIMED / seconds, 2),
        "peak_bytes": after.ru_maxrss * 1024,
        "share_of_the_system": round(system / (system + user), 3),
    }


def in_a_process(kept: bool, *step: object) -> Any:
    """``measure`` in a new process."""
    command = [sys.executable, __file__, "--step", json.dumps(step)] + ["--keep"] * kept
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", type=json.loads, help="measure this one in this process")
    parser.add_argument("--keep", action="store_true", help="with --step: keep what is freed")
    args = parser.parse_args()
    if args.step is not None:
        if args.keep:
            freed_memory.keep()
        print(json.dumps(measure(*args.step)))
        return
    rows = []
    for step in STEPS:
        pairs = [{k: in_a_process(k == "kept", *step) for k in ("returned", "kept")}
                 for _ in range(args.rounds)]  # fmt: skip
        for pair in pairs:
            faster = pair["kept"]["images_per_second"] / pair["returned"]["images_per_second"]
            more = pair["kept"]["peak_bytes"] / pair["returned"]["peak_bytes"]
            rows.append({
                "variant": step[0], "map": step[1], "batch": step[2], **pair,
                "faster": round(faster, 3), "more_memory": round(more, 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
    if args.out is not None:
        command = f"python bench/kept_memory.py --rounds {args.rounds}"
        of = "training steps of ResNeXt-50, float32, in a new process each"
        write_rows(args.out, rows, command, of)


if __name__ == "__main__":
    main()
