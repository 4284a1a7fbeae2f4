"""Accuracy over seeds: train every method with every seed, then the table of mean and spread.

    python bench/accuracy.py --preset cifar10-ir100-cpu --dataset folder --root FOLDER

A finished run is not trained again, an unfinished one is resumed. Options after the ones below are
``ltvr.train``'s and go to every run. Results: ``bench/results/accuracy-PRESET.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ltvr.runs.folder import Run
from ltvr.settings import methods

RESULTS = Path(__file__).parent / "results"
STAGES = {"features": "features", "crt": "+ cRT"}
COLUMNS = ("all", "many", "medium", "few")


def train(folder: Path, options: list[str], threads: int) -> None:
    """Train one run with ``threads`` threads, or go on with it; its output goes to a log."""
    if (folder / "summary.json").is_file():
        return
    command = [sys.executable, "-m", "ltvr.train"]
    if (folder / "last.pt").is_file():
        command += ["--resume", str(folder)]
    else:
        command += [*options, "--out", str(folder.parent), "--name", folder.name]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    log = folder.parent / f"{folder.name}.log"
    with log.open("a") as output:
        ended = subprocess.run(command, stdout=output, stderr=output, env=environment)
    if ended.returncode:
        raise SystemExit(f"{folder.name} failed; see {log}")
    print(f"{folder.name}: {read(folder)['metrics'][list(STAGES)[-1]]['all']:.2f}", flush=True)


def read(folder: Path) -> dict[str, Any]:
    """Read the summary of a finished run, without its confusion matrices."""
    summary = Run(folder).read_summary()
    for metrics in summary["metrics"].values():
        metrics.pop("confusion", None)
    return {name: summary[name] for name in ("metrics", "lr", "seconds", "backend", "environment")}


def spread(values: list[float | None]) -> str:
    """Mean and sample standard deviation; n/a where a subset has no class."""
    known = [v for v in values if v is not None]
    if not known:
        return "n/a"
    deviation = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.2f}{deviation}"


def table(runs: dict[str, dict[str, Any]], chosen: list[str], seeds: list[int]) -> str:
    """Markdown: a row for each method and stage, and its paired gain over the baseline."""
    lines = [
        "| top-1, % | All | Many | Medium | Few | All, by seed | gain over baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, method in itertools.product(STAGES, chosen):
        of = {
            name: [runs[f"{name}-seed{seed}"]["metrics"][stage] for seed in seeds]
            for name in (method, "baseline")
        }
        cells = [spread([m[column] for m in of[method]]) for column in COLUMNS]
        by_seed = " ".join(f"{m['all']:.2f}" for m in of[method])
        gains = [m["all"] - b["all"] for m, b in zip(of[method], of["baseline"], strict=True)]
        gain = spread(list(gains)) if method != "baseline" else ""
        lines.append(f"| {method}, {STAGES[stage]} | {' | '.join(cells)} | {by_seed} | {gain} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    p = argparse.ArgumentParser(description="Accuracy over seeds.")
    p.add_argument("--preset", default="cifar10-ir100-cpu")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument(
        "--methods",
        nargs="+",
        choices=methods(),
        default=["baseline", "ltvr-letter", "ltvr"],
        metavar="METHOD",
    )
    p.add_argument("--jobs", type=int, default=1, help="runs side by side; cores are shared out")
    p.add_argument("--out", type=Path, default=Path("runs/accuracy"), help="folder of the runs")
    arguments, options = p.parse_known_args()
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    out: Path = arguments.out / arguments.preset
    out.mkdir(parents=True, exist_ok=True)
    chosen = ["baseline", *(name for name in arguments.methods if name != "baseline")]
    names = {
        f"{method}-seed{seed}": ["--method", method, "--seed", str(seed), *options]
        for seed, method in itertools.product(arguments.seeds, chosen)
    }
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = [
            pool.submit(train, out / name, ["--preset", arguments.preset, *own], threads)
            for name, own in names.items()
        ]
        for future in done:
            future.result()
    runs = {name: read(out / name) for name in names}
    text = table(runs, chosen, arguments.seeds)
    shown = {**runs[next(iter(runs))]["environment"], "date": time.strftime("%Y-%m-%d")}
    about = ", ".join(f"{key} {value}" for key, value in shown.items())
    title = f"# {arguments.preset}, seeds {' '.join(map(str, arguments.seeds))}\n\n"
    RESULTS.mkdir(exist_ok=True)
    record = {
        "command": ["python", "bench/accuracy.py", *sys.argv[1:]],
        "date": shown["date"],
        "runs": runs,
    }
    path = RESULTS / f"accuracy-{arguments.preset}"
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(f"{title}{text}\n{about}\n")
    print(f"\n{text}\n{path}.md, {path}.json")


if __name__ == "__main__":
    main()
