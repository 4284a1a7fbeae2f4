"""Kills, full disks and races: does every run end as if nothing had happened to it?

    unshare --map-root-user --mount python bench/kill_campaign.py

Tiny runs are killed (SIGKILL) at random moments of their training and resumed until they are done;
run on a disk that is full after a random number of bytes, and resumed once there is room; and
started twice in one folder. What they leave must be that of a run that was left alone, to the bit:
metrics, records and weights. ``unshare`` lets the script mount small disks of its own; without it
that part is left out, and the result says so. Results: ``bench/results/kill_campaign.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import ltvr.train
from ltvr import errors
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run

RESULT = Path(__file__).parent / "results" / "kill_campaign.json"
FORK = multiprocessing.get_context("fork")
TINY = """
preset digits, device cpu, backbone resnext14_8x4d_slim, image-size 8, epochs 3, crt-epochs 2,
lay-back-start 0.34, batch-size 64, warmup-epochs 0, select best
"""
SETTINGS = {
    "reference": "fused false",
    "fused": "fused true",
    "ema": "ema 0.9",
    "accumulate": "accumulate 2",
    "folder": """dataset folder, image-size 72, imbalance 1, augmentation imagenet, workers 2,
    stem imagenet, batch-size 8""",
}
KILLS_A_RUN = 7
CLOCK = ("seconds", "eval_seconds", "images_per_second")


class Process:
    """A training command in a process of its own, with its output in files.

    It is forked from this one, which has imported all that it needs.
    """

    def __init__(self, arguments: list[str], save_every: float | None = None) -> None:
        often = [] if save_every is None else ["--save-every", str(save_every)]
        self._files = [os.memfd_create(name) for name in ("stdout", "stderr")]
        self._process = FORK.Process(target=self._run, args=([*arguments, *often],))
        self._process.start()

    def _run(self, arguments: list[str]) -> None:
        for descriptor, file in enumerate(self._files, 1):
            os.dup2(file, descriptor)
        sys.argv = ["ltvr.train", *arguments]
        sys.stdout = os.fdopen(1, "w")
        sys.stderr = os.fdopen(2, "w")
        errors.run(ltvr.train.main)

    def _text(self, descriptor: int) -> str:
        return os.pread(self._files[descriptor - 1], 1 << 20, 0).decode()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed ``text``, or has ended."""
        while text not in self._text(1) and self._process.is_alive():
            time.sleep(0.005)

    def ended_within(self, seconds: float) -> bool:
        """Whether it ends by itself within that time."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.join()

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit status and stderr."""
        self._process.join()
        err = self._text(2)
        for file in self._files:
            os.close(file)
        return self._process.exitcode or 0, err


def options(setting: str) -> list[str]:
    """The command line of the tiny run with a setting."""
    words = [each.split() for each in f"{TINY},{SETTINGS[setting]}".split(",")]
    values = dict(words)
    fused = values.pop("fused", "false")
    flags = [word for name, value in values.items() for word in (f"--{name}", value)]
    return [*flags, "--fused" if fused == "true" else "--no-fused"]


def left(folder: Path) -> dict[str, Any]:
    """What a finished run left, without what a clock says."""
    run = Run.open(folder)
    records = [{k: v for k, v in r.items() if k not in CLOCK} for r in run.records()]
    weights = {name: torch.load(folder / f"{name}.pt")["model"] for name in ("features", "final")}
    return {"metrics": run.read_summary()["metrics"], "records": records, "weights": weights}


def same(one: Any, other: Any) -> bool:
    """Equality to the bit."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(v, other[k]) for k, v in one.items())
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def one_line(err: str) -> bool:
    """Whether stderr is one line or less."""
    return err.count("\n") <= 1 and "Traceback" not in err


def kills(arguments: list[str], out: Path, number: int, draw: random.Random) -> dict[str, Any]:
    """Kill runs ``number`` times in all; report how many ended as the one that was left alone."""
    whole = Process([*arguments, "--out", str(out), "--name", "whole"])
    whole.wait_for("run folder")
    began = time.monotonic()
    status, err = whole.end()
    assert status == 0, err
    lasts, expected = time.monotonic() - began, left(out / "whole")
    done = runs = equal = quiet = 0
    while done < number:
        folder, killed = out / f"killed-{runs}", 0
        start = [*arguments, "--out", str(out), "--name", folder.name]
        while True:
            resumable = Run(folder).resumable
            process = Process(
                ["--resume", str(folder)] if resumable else start, draw.choice([None, 0.001])
            )
            process.wait_for("resuming" if resumable else "run folder")
            last = killed == KILLS_A_RUN or done == number
            if not last and not process.ended_within(draw.uniform(0, lasts)):
                process.kill()
                process.end()
                killed, done = killed + 1, done + 1
                continue
            status, err = process.end()
            break
        runs, quiet = runs + 1, quiet + (status == 0 and one_line(err))
        equal += same(left(folder), expected)
        print(f"{out.name}: {done} kills, {equal} of {runs} runs as if left alone", flush=True)
    return {"kills": done, "runs": runs, "equal to the bit": equal, "no traceback": quiet}


def full_disks(arguments: list[str], out: Path, number: int, draw: random.Random) -> dict[str, Any]:
    """Run on disks that are full after a random number of bytes; resume with room."""
    disk, expected = out / "disk", left(out / "whole")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        return {"left out": "cannot mount; run under unshare --map-root-user --mount"}
    subprocess.run(["umount", disk], check=True)
    files = [p.stat().st_size for p in (out / "whole").rglob("*") if p.is_file()]
    most, counts = sum(files) + max(files), dict.fromkeys(("full", "equal", "one line", "named"), 0)
    for _ in range(number):
        size = draw.randrange(4096, most)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
        status, err = Process([*arguments, "--out", str(disk), "--name", "run"]).end()
        counts["full"] += status == 2
        counts["one line"] += one_line(err)
        counts["named"] += status == 0 or ("No space left" in err and str(disk) in err)
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        while status != 0:
            again = ["--resume", str(disk / "run")]
            if not Run(disk / "run").resumable:
                again = [*arguments, "--out", str(disk), "--name", "run"]
            status, err = Process(again).end()
            assert status == 0, err
        counts["equal"] += same(left(disk / "run"), expected)
        subprocess.run(["umount", disk], check=True)
        print(f"full disk after {size} bytes: {counts}", flush=True)
    return {"disks": number, **counts}


def races(arguments: list[str], out: Path) -> dict[str, Any]:
    """Two processes on one folder, and two without a name in the same second."""
    named = [*arguments, "--out", str(out), "--name", "shared"]
    first = Process(named)
    first.wait_for("epoch 1/")
    others = [Process(a).end() for a in (named, ["--resume", str(out / "shared")])]
    finished = first.end()[0]
    unnamed = [Process([*arguments, "--out", str(out / "unnamed")]) for _ in range(3)]
    ended = [process.end()[0] for process in unnamed]
    return {
        "refused": sum(
            status == 2 and ("in use by process" in err or "already holds a run" in err)
            for status, err in others
        ),
        "the first is equal to the bit": finished == 0
        and same(left(out / "shared"), left(out / "whole")),
        "three without a name": ended,
        "folders": len(list((out / "unnamed").iterdir())),
    }


def images(root: Path) -> None:
    """A folder of random photographs of two classes, marked by their brightness."""
    pixels = np.random.default_rng(0)
    for split, number in (("train", 24), ("test", 8)):
        for k, name in enumerate("ab"):
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                image = pixels.integers(0, 156 + 100 * k, (80, 100, 3), np.uint8)
                Image.fromarray(image).save(root / split / name / f"{i}.png")


def main() -> None:
    """Run the command line."""
    p = argparse.ArgumentParser(description="Kills, full disks and races.")
    p.add_argument("--kills", type=int, default=20, help="for each setting (20)")
    p.add_argument("--disks", type=int, default=20, help="full disks (20)")
    p.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    p.add_argument("--seed", type=int, default=0)
    given = p.parse_args()
    draw, began = random.Random(given.seed), time.monotonic()
    result: dict[str, Any] = {
        "environment": environment(torch.device("cpu")),
        "date": time.strftime("%Y-%m-%d"),
        "command": ["python", "bench/kill_campaign.py", *sys.argv[1:]],
        "seed": given.seed,
        "kills": {},
    }
    torch.set_num_threads(1)  # threads do not outlive a fork, and one repeats to the bit
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        images(out / "images")
        for name in given.settings:
            root = ["--root", str(out / "images")] if name == "folder" else []
            result["kills"][name] = kills([*options(name), *root], out / name, given.kills, draw)
        first = given.settings[0]
        result["races"] = races(options(first), out / first)
        print(f"races: {result['races']}", flush=True)
        result["full disks"] = full_disks(options(first), out / first, given.disks, draw)
    result["seconds"] = round(time.monotonic() - began)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{json.dumps(result, indent=1)}\n{RESULT}")


if __name__ == "__main__":
    main()
