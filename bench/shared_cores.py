"""What a training on a CPU loses to another process that keeps one core busy, and by what waiting.

A command has libgomp's threads take 1,000 looks for each other before they sleep
(``ltvr.threads``); by itself libgomp takes 300,000. This trains the embedded data set by both, in
turn, alone and beside a process that computes without an end::

    python bench/shared_cores.py --out bench/results/shared_cores.json
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cpu_rows import write_rows
from ltvr.threads import SPINS

WAITS = {"libgomp's own": "300000", "ltvr's": SPINS}
COMMAND = ["-m", "ltvr.train", "--preset", "digits", "--epochs", "3", "--crt-epochs", "1"]
EPOCHS = 3
"""Of the first stage; the last of them, in which samples are generated as well, is what counts."""


def images_per_second(looks: str, busy: int) -> int:
    """Of the last epoch of the first stage, beside ``busy`` processes."""
    endless = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(endless, start_new_session=True) for _ in range(busy)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            said = subprocess.run(
                [sys.executable, *COMMAND, "--out", folder],
                env={**os.environ, "GOMP_SPINCOUNT": looks},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
    finally:
        for other in others:
            other.kill()
    return int(re.findall(r"(\d+) images/s", said)[EPOCHS - 1])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[tuple[int, str], list[int]] = {(b, w): [] for b in (0, 1) for w in WAITS}
    for _ in range(args.rounds):
        for (busy, waits), rates in found.items():
            rates.append(images_per_second(WAITS[waits], busy))
    rows = [
        {
            "busy_processes": busy,
            "waits": waits,
            "looks": int(WAITS[waits]),
            "images_per_second": rates,
            "median": statistics.median(rates),
        }
        for (busy, waits), rates in found.items()
    ]
    for row in rows:
        print(row)
    if args.out is not None:
        command = f"python bench/shared_cores.py --rounds {args.rounds}"
        write_rows(args.out, rows, command, " ".join(["python", *COMMAND]))


if __name__ == "__main__":
    main()
