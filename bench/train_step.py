"""A whole training step of ResNeXt-50: the baseline, LTVR with eager AFA, LTVR fused.

The method runs the last stage on real and generated rows. What that alone costs is another
variant: the baseline with a copy of a row in place of each generated one. Small batches on a GPU
wait for the host: with ``--graphs`` the baseline and LTVR fused are also timed as CUDA graphs, as
``--compile --fixed-size`` makes them.
"""

from __future__ import annotations

import argparse
from typing import Any, cast

import torch
from torch import Tensor, nn

from ltvr import LTVR, SynthesisPlan, plan_synthesis
from ltvr.afa.functional import resolve_backend
from ltvr.afa.planning import most_generated
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.decompositions.base import Decomposition
from ltvr.engine.step import Step as TrainingStep
from ltvr.losses.base import Divisors
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.stages.features import lay_back_loss
from measure import Step, interleaved, peak_memory, quantiles
from resnext import resnext50

__all__ = ["measure_steps"]

CLASSES = 100
CASES = {"2x2": (32, "imagenet"), "8x8": (32, "cifar"), "14x14": (224, "imagenet")}
"""Image size and stem, by the feature map that AFA sees."""
BATCHES = {
    "cpu": [("2x2", 64), ("8x8", 16)],
    "cuda": [("2x2", 1024), ("2x2", 32), ("8x8", 256), ("14x14", 128)],
}

VARIANTS = ("baseline", "rows copied", "ltvr eager", "ltvr fused")
GRAPHS = ("baseline, graph", "ltvr fused, graph")


class Copies(Decomposition):
    """As many rows as AFA makes, without making them."""

    def generate(self, features: Tensor, plan: SynthesisPlan) -> Tensor:
        """[B, D, H, W] to [B+G, D, H, W]."""
        return torch.cat([features, features[plan.class_index]])


def training_step(
    variant: str, case: str, batch: int, dtype: torch.dtype, device: torch.device
) -> Step:
    """Forward with the loss, under autocast; backward, SGD and the plan of the next batch."""
    size, stem = CASES[case]
    variant, _, graph = variant.partition(", ")
    torch.manual_seed(0)
    backend = "reference"
    if variant == "ltvr fused":
        backend = resolve_backend("triton" if device.type == "cuda" else "cpp", device)
    insert_after = None if variant == "baseline" else "layer3"
    model = LTVR(resnext50(stem), CLASSES, insert_after, image_size=size, backend=backend)
    if variant == "rows copied":
        model.decomposition = Copies()
    model.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % CLASSES
    targets = Targets(labels).to(device)
    loss = CrossEntropy(NoOptions(), torch.bincount(labels, minlength=CLASSES))
    step: nn.Module = TrainingStep(model, loss.to(device))
    if graph:
        step = cast(nn.Module, torch.compile(step, mode="reduce-overhead"))

    def forward() -> torch.Tensor:
        plan = None
        if insert_after is not None:
            plan = plan_synthesis(labels, seed=0, step=0)
            if graph:
                plan = plan.padded(most_generated(batch, 1.0, CLASSES))
            plan = plan.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            rows = step(images, targets, plan)
        of = Divisors.of(rows.weights, batch)
        return lay_back_loss(rows.values, rows.weights, batch, of, 2.0).total

    def backward(loss: torch.Tensor) -> None:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return Step(forward, backward)


def measure_steps(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time and print the variants, for every map and dtype; a row each."""
    device = arguments.device
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    rows = []
    for dtype in arguments.dtype:
        for case, batch in BATCHES[device.type]:
            print(f"\nResNeXt-50, {CASES[case][0]} px, {case} map, batch {batch}, {dtype}")
            steps = {
                name: training_step(name, case, batch, types[dtype], device)
                for name in (VARIANTS + GRAPHS if arguments.graphs else VARIANTS)
            }
            for step in steps.values():  # momentum is there, and a graph is recorded, by then
                for _ in range(3):
                    step.backward(step.forward())
            peaks = {name: peak_memory(step, device) for name, step in steps.items()}
            times = interleaved(steps, device, arguments.rounds, arguments.seconds)
            least = quantiles(times["baseline"].both)["median"]
            for name in steps:
                found = quantiles(times[name].both)
                rows.append({
                    "map": case, "batch": batch, "dtype": dtype, "variant": name, "ms": found,
                    "images_per_second": 1e3 * batch / found["median"],
                    "over_baseline": found["median"] / least, "peak_bytes": peaks[name],
                })  # fmt: skip
                print(
                    f"{name:18}{found['median']:10.1f} ms ({found['p10']:.1f}-{found['p90']:.1f})"
                    f"{rows[-1]['images_per_second']:10.1f} images/s"
                    f"{rows[-1]['over_baseline']:8.2f} of the baseline's time"
                    f"{peaks[name] / 1e6:10.0f} MB",
                    flush=True,
                )
    return rows
