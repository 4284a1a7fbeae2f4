"""Synthesis plans of real batches, and how far the backward's gather is a chain for each.

    python bench/plans.py [--batch 32 256] [--batches 200]

Labels are drawn by the class counts of a data set, without replacement, as an epoch's sampler does.
A rare class has one sample in the batch, and most generated rows take their class feature from it:
the backward sums their gradients. Prints the rows of the sample that gave most, and the longest
chain of loads that wait for each other, one for one row after the other in blocks of UNROLL, and
with the segments of ``ltvr/kernels/gather.py``: counts, not times.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from ltvr import SynthesisPlan, plan_synthesis
from ltvr.data.longtail import imagenet_lt_counts, longtail_counts

__all__ = ["COUNTS", "batch_labels", "batch_plan"]

COUNTS = {
    "balanced": 100 * [500],
    "cifar10-lt": longtail_counts(5000, 10, 100.0, "exp"),
    "cifar100-lt": longtail_counts(500, 100, 100.0, "exp"),
    "imagenet-lt": imagenet_lt_counts(),
}
"""Training images of each class, by the name of the data; imbalance 100 where it is chosen."""


def batch_labels(data: str, batch: int, seed: int = 0) -> Tensor:
    """Labels of a batch of ``data`` [B]."""
    counts = np.array(COUNTS[data])
    labels = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(seed).choice(labels, batch, replace=False))


def batch_plan(data: str, batch: int, seed: int = 0) -> SynthesisPlan:
    """Plan of a batch of ``data``, on the host; ``balanced`` takes all classes alike."""
    return plan_synthesis(batch_labels(data, batch, seed), seed=0, step=seed)


def chain(first: int, last: int, unroll: int, segment: int | None) -> int:
    """Steps that wait for each other where a program sums rows ``first`` to ``last`` of the index.

    Each step has ``unroll`` loads on their way at a time.
    """
    if segment is None:
        return -(-(last - first) // unroll)
    head = -(-first // segment)
    end = min(head * segment, last)
    rest = max(end, last // segment * segment)
    whole = max(0, last // segment - head)
    made = -(-segment // unroll) if whole else 0  # the segments themselves, at the same time
    return made + sum(-(-n // unroll) for n in (end - first, whole, last - rest))


def longest(plan: SynthesisPlan, unroll: int, segment: int | None) -> int:
    """Longest of the chains of a plan's samples."""
    offsets = plan.class_offsets.tolist()
    return max(chain(a, b, unroll, segment) for a, b in zip(offsets, offsets[1:], strict=False))


def main() -> None:
    """Print the table."""
    from ltvr.kernels.gather import SEGMENT, UNROLL

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--batches", type=int, default=200, help="drawn of each")
    options = parser.parse_args()
    print(f"{'':24}{'rows of one sample':>24}{'chain, rows':>20}{'chain, segments':>20}")
    print(f"{'data':16}{'batch':>8}" + 3 * f"{'median':>12}{'most':>8}")
    for data in COUNTS:
        for batch in options.batch:
            plans = [batch_plan(data, batch, seed) for seed in range(options.batches)]
            columns = (
                [int(plan.class_offsets.diff().max()) for plan in plans],
                [longest(plan, UNROLL.value, None) for plan in plans],
                [longest(plan, UNROLL.value, SEGMENT.value) for plan in plans],
            )
            print(f"{data:16}{batch:>8}", end="")
            print("".join(f"{np.median(c):>12.0f}{max(c):>8}" for c in columns))


if __name__ == "__main__":
    main()
