"""What several ranks gain and cost: measured on two cores, and 8 GPUs on paper."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

import ltvr.training
from gpus import GPUS
from ltvr import distributed, plan_synthesis
from ltvr.clock import Clock
from ltvr.config.config import Config
from ltvr.data.datasets import stub_data
from ltvr.data.splits import Data
from ltvr.engine.state import StageState
from ltvr.engine.step import Step
from ltvr.engine.training import network_to_train
from ltvr.networks.batchnorm import moving_statistics
from ltvr.networks.build import build_network
from ltvr.runs.folder import Run
from ltvr.settings import load_config
from ltvr.stages.build import stages_of
from plans import batch_labels
from rank_agreement import on_ranks

__all__ = ["model", "speed"]

CPU = torch.device("cpu")
IMAGES, ROUNDS = 512, 3
CIFAR = {
    "device": "cpu", "batch_size": 64, "synthesis_group": 32, "epochs": 4, "lay_back_start": 0.5,
    "stages": ["features"], "evaluate_every": 4, "batchnorm_images": 0,
}  # fmt: skip
REPORT = Path(__file__).parent / "results" / "kernel_report_after.json"
GPU, RANKS, OF_A_RANK, CLASSES = 90, 8, 64, 1000
LINKS = {"NVLink 4 of an H100": 450e9, "PCIe 4 x16": 31.5e9, "100 Gbit Ethernet": 12.5e9}
"""Bytes a second in one direction, of one GPU, by the standards and NVIDIA's data sheet."""


# ---- two cores ----


def config_of(seed: int) -> Config:
    """The CPU preset of CIFAR-10-LT with a batch that two ranks can share."""
    return load_config("cifar10-ir100-cpu", "ltvr", {**CIFAR, "seed": seed})


def few(config: Config) -> Data:
    """Random images, as many as take seconds."""
    data = stub_data(config, CPU)
    chosen = np.random.default_rng(0).choice(len(data.train), IMAGES, replace=False)
    train, test = data.train.take(np.sort(chosen)), data.test.take(np.arange(64))
    return Data(train, None, test, data.classes)


def trained(config: Config, out: Path, apart: bool = False) -> list[float]:
    """Images a second of the second epoch of each kind: real images, and generation.

    Args:
        apart: whether each process has a run of its own.
    """
    folder = out / (f"run-{os.getpid()}" if apart else "run")
    with (
        mock.patch.object(ltvr.training, "load_data", few),
        mock.patch.object(ltvr.training, "write_report"),
    ):
        ltvr.training.train(config, folder)
    return [r["images_per_second"] for r in Run(folder).records()][1::2]


def microseconds(function: Callable[[], object], calls: int) -> float:
    """Median of the calls, after as many to warm up, of which all ranks make as many."""
    times = []
    for _ in range(2 * calls):
        start = time.perf_counter_ns()
        function()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.median(times[calls:])


def agreeing(config: Config) -> dict[str, Any]:
    """What a step of several ranks does that a step of one does not."""
    network = network_to_train(config, 10, CPU, lambda line: None)
    stage = stages_of(config)["features"]
    loss = stage.training_loss(network, torch.full((10,), 10))
    clock = Clock(0, "features", 1, 1, 1)
    state = StageState(Step(network, loss), stage, config, clock, 10)
    stage.train_mode(network)
    moved = sum(each.numel() for each in moving_statistics(network))
    gradients = torch.zeros(sum(each.numel() for each in network.parameters()))
    return {
        "requests, us": microseconds(lambda: distributed.any_of_ranks([0, 0]), 500),
        "statistics, us": microseconds(state._average_statistics, 200),
        "statistics, bytes": 4 * moved,
        "gradients, us": microseconds(lambda: dist.all_reduce(gradients), 50),
        "gradients, bytes": 4 * gradients.numel(),
    }


def speed(out: Path, seed: int) -> dict[str, Any]:
    """Train on one rank, on two, and in two processes of a run each, in turn; one thread each.

    The last says what the two cores are worth: nobody waits for the other there.
    """
    config = config_of(seed)
    rates: dict[str, list[list[float]]] = {"1 rank": [], "2 ranks": [], "2 runs": []}
    for number in range(ROUNDS):
        for what, found in rates.items():
            folder, ranks = out / f"{what}-{number}", 1 if what == "1 rank" else 2
            apart = what == "2 runs"
            each = on_ranks(ranks, folder, trained, config, folder, apart, join=not apart)
            found.append([sum(run) for run in zip(*each, strict=True)] if apart else each[0])
            print(f"{what}: {found[-1]} images/s", flush=True)
    middle = {
        kind: {what: statistics.median(each[k] for each in rates[what]) for what in rates}
        for k, kind in enumerate(("real images", "with generation"))
    }
    return {
        "options": CIFAR,
        "rounds": rates,
        "images a second": middle,
        "over 1 rank": {
            kind: {what: rate / found["1 rank"] for what, rate in found.items()}
            for kind, found in middle.items()
        },
        "of a step of two ranks": on_ranks(2, out / "agreeing", agreeing, config)[0],
    }


# ---- eight GPUs, on paper ----


def operations(part: torch.nn.Module, inputs: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Operations of a forward pass, and what comes of it."""
    with FlopCounterMode(display=False) as counter:
        found = part(inputs)
    return counter.get_total_flops(), found


def model(out: Path, seed: int) -> dict[str, Any]:
    """The least time of a step of ResNeXt-50 with AFA on each of 8 H100, and of what they send.

    A model: matrix products at the peak of bf16, three passes for one forward; AFA at the bounds of
    ``kernel_report_after.json``; a ring that moves 2 (W - 1) / W of the bytes over each GPU's link.
    A real step is longer, so the share of the step that sending takes is at most this.
    """
    config = load_config("imagenet-lt", "ltvr", {"batch_size": RANKS * OF_A_RANK, "seed": seed})
    network = build_network(config, CLASSES, "reference", lambda line: None)
    decomposition = network.decomposition
    assert decomposition is not None
    network.train()
    moved = sum(t.numel() for t in (*moving_statistics(network), *network.classifier.statistics()))
    number = {
        "of the network": sum(p.numel() for p in network.parameters()),
        "of AFA": sum(p.numel() for p in decomposition.parameters()),
    }
    labels = [batch_labels("imagenet-lt", OF_A_RANK, k) for k in range(200)]
    made = [plan_synthesis(each, seed=0, step=0, groups=2).generated for each in labels]
    rows = OF_A_RANK + statistics.mean(made)
    meta = network.to("meta")
    images = torch.empty(1, 3, network.image_size, network.image_size, device="meta")
    before, features = operations(meta.extractor, images)
    behind, _ = operations(meta.embedder, features)
    work = 3 * (OF_A_RANK * before + rows * behind)
    gpu = GPUS[GPU]
    peak = 2 * gpu.products["half"] * gpu.multiprocessors * gpu.clock
    step = {"products, ms": 1e3 * work / peak, "AFA, ms": afa_bound() / 1e3}
    least = sum(step.values())
    size = {"gradients": 4 * number["of the network"], "statistics": 4 * moved, "requests": 16}
    travel = 2 * (RANKS - 1) / RANKS
    links = {}
    for name, bandwidth in LINKS.items():
        ms = {what: 1e3 * travel * size[what] / bandwidth for what in ("gradients", "statistics")}
        links[name] = {
            "bytes a second": bandwidth,
            **{f"{what}, ms": value for what, value in ms.items()},
            "share of the least step, at most": sum(ms.values()) / least,
        }
    found = {
        "what": "a model of 8 H100; nothing of it was measured",
        "batch": f"{RANKS * OF_A_RANK} = {RANKS} x {OF_A_RANK} x 1",
        "map": list(features.shape[1:]),
        "parameters": number,
        "rows generated of 64 images, mean": statistics.mean(made),
        "operations of a step and GPU": work,
        "peak, operations a second": peak,
        "least step": {**step, "ms": least, "AFA from": f"bench/results/{REPORT.name}"},
        "bytes reduced a step": size,
        "a ring over": links,
    }
    print(json.dumps(found, indent=1), flush=True)
    return found


def afa_bound() -> float:
    """Least microseconds of AFA's launches in a step of 64 images of 224 pixels, bf16."""
    for step in json.loads(REPORT.read_text())["steps"]:
        if step["case"]["name"] == "224 px" and step["setting"]["dtype"] == "bf16":
            launches = [each for each in step["launches"] if each["arch"] == GPU]
            return float(sum(max(each["floor_us"].values()) for each in launches))
    raise LookupError(f"{REPORT} has no step of 224 px in bf16")
