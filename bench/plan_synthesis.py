"""Time the synthesis plan: the C++ operator against its NumPy reference.

    python bench/plan_synthesis.py [--calls 2000] [--json FILE]

Batches are drawn from a long-tailed training set (imbalance ratio 100). Every call takes another
batch and step, so that the branch predictor does not learn one plan by heart. Before any time is
reported, both must give the same plans.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltvr.afa.plan import SynthesisPlan
from ltvr.afa.planning import plan_synthesis
from ltvr.afa.planning_reference import plan_synthesis_reference

BATCHES = (32, 128, 1024)
CLASSES = (10, 1000)
IMBALANCE = 100
GROUP = 32  # samples of a group, as in training; a smaller batch is one group
DISTINCT = 16  # label batches that a measurement cycles through


def long_tailed_batches(batch: int, classes: int) -> list[Tensor]:
    """Draw DISTINCT label batches [B] from exponentially falling class frequencies."""
    frequency = IMBALANCE ** -(np.arange(classes) / (classes - 1))
    draws = np.random.default_rng(0).choice(
        classes, size=(DISTINCT, batch), p=frequency / frequency.sum()
    )
    return list(torch.from_numpy(draws))


def microseconds(
    plan: Callable[..., SynthesisPlan], batches: list[Tensor], groups: int, calls: int
) -> Tensor:
    """Measure the time of every call, after a tenth as many to warm up."""
    warm_up = calls // 10
    times = []
    for step in range(warm_up + calls):
        labels = batches[step % DISTINCT]
        start = time.perf_counter_ns()
        plan(labels, seed=0, step=step, groups=groups)
        times.append(time.perf_counter_ns() - start)
    return torch.tensor(times[warm_up:], dtype=torch.float64) / 1e3


def measure(batch: int, classes: int, calls: int) -> dict[str, float]:
    """Compare operator and reference on one size; refuse if they disagree."""
    batches = long_tailed_batches(batch, classes)
    groups = -(-batch // GROUP)
    plans = [
        plan_synthesis(labels, seed=0, step=s, groups=groups) for s, labels in enumerate(batches)
    ]
    for step, (labels, plan) in enumerate(zip(batches, plans, strict=True)):
        expected = plan_synthesis_reference(labels, seed=0, step=step, groups=groups)
        if not all(torch.equal(a, e) for a, e in zip(plan, expected, strict=True)):
            raise SystemExit(f"B {batch}, {classes} classes: the operator is wrong; no times")

    row: dict[str, float] = {
        "batch": batch,
        "groups": groups,
        "classes": classes,
        "classes_present": sum(len(y.unique()) for y in batches) / DISTINCT,
        "generated": sum(plan.generated for plan in plans) / DISTINCT,
    }
    quantiles = torch.tensor([0.1, 0.5, 0.9, 0.99], dtype=torch.float64)
    for name, plan_of, count in (
        ("op", plan_synthesis, calls),
        ("reference", plan_synthesis_reference, max(20, calls // 10)),
    ):
        found = microseconds(plan_of, batches, groups, count).quantile(quantiles).tolist()
        for label, value in zip(("p10", "median", "p90", "p99"), found, strict=True):
            row[f"{name}_{label}_us"] = round(value, 2)
    return row


def main() -> None:
    """Print the table; write it with --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of the operator")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args()

    print(
        f"plan_synthesis, gamma 1, alpha 4, imbalance {IMBALANCE}, groups of {GROUP}; "
        "microseconds a call"
    )
    print(f"{'B':>5} {'classes':>8} {'present':>8} {'rows':>6}", end=" |")
    print(f"{'op':>8} {'p10':>8} {'p90':>8} {'p99':>8} |{'NumPy':>8} {'speed-up':>9}")
    rows = []
    for batch in BATCHES:
        for classes in CLASSES:
            row = measure(batch, classes, options.calls)
            rows.append(row)
            print(
                f"{batch:5d} {classes:8d} {row['classes_present']:8.1f} {row['generated']:6.0f} |"
                f"{row['op_median_us']:8.1f} {row['op_p10_us']:8.1f} {row['op_p90_us']:8.1f} "
                f"{row['op_p99_us']:8.1f} |{row['reference_median_us']:8.0f} "
                f"{row['reference_median_us'] / row['op_median_us']:8.0f}x"
            )

    if options.json is not None:
        report = {
            "benchmark": "plan_synthesis",
            "command": f"python bench/plan_synthesis.py --calls {options.calls}",
            "date": time.strftime("%Y-%m-%d"),
            "seed": 0,
            "machine": platform.machine(),
            "processor_capability": torch.backends.cpu.get_cpu_capability(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "calls": options.calls,
            "results": rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
