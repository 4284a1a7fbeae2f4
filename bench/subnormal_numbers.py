"""What a training step on a CPU gains where subnormal numbers are taken for zero.

The commands of ltvr take them so (``ltvr.subnormal_numbers``). How many there are depends on the
features, so this takes steps of a trained network on its own training images, with and without, in
turn::

    python bench/subnormal_numbers.py RUN --out bench/results/subnormal_numbers.json

Processor time is counted, of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional

from cpu_rows import write_rows
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.subnormal_numbers import take_for_zero

BATCH, WARM_UP = 128, 2


def measure(run: Path, variant: str, steps: int) -> dict[str, list[float]]:
    """Seconds of each step of a variant, by whether subnormal numbers are kept."""
    trained = load_trained(run / "features.pt", "cpu", fused=variant == "fused")
    network = trained.network.train()
    if variant == "without AFA":
        network.decomposition = None
    images, labels = next(trained.batches(load_data(trained.config).train, BATCH))
    seconds: dict[str, list[float]] = {"kept": [], "zero": []}
    for step in range(WARM_UP + steps):
        for name, times in seconds.items():
            if name == "zero":
                take_for_zero()
            else:
                torch.set_flush_denormal(False)
            network.zero_grad()
            began = time.process_time()
            functional.cross_entropy(network(images), labels).backward()
            if step >= WARM_UP:
                times.append(round(time.process_time() - began, 3))
    return seconds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("run", type=Path, help="folder of a run of --method ltvr on a CPU")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for variant in ("without AFA", "fused", "reference"):
        seconds = measure(args.run, variant, args.steps)
        kept, zero = (statistics.median(times) for times in seconds.values())
        rows.append({"variant": variant, "batch": BATCH, **seconds, "kept_by_zero": kept / zero})
        print(variant, kept, zero, round(kept / zero, 2), flush=True)
    if args.out is not None:
        command = f"python bench/subnormal_numbers.py RUN --steps {args.steps}"
        write_rows(args.out, rows, command, f"processor seconds of steps of {args.run.name}")


if __name__ == "__main__":
    main()
