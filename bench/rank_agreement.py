"""Is a run the same on any number of ranks? Losses, metrics, order, plans, evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.modules.batchnorm import _BatchNorm

import ltvr.training
from ltvr import distributed
from ltvr.clock import stream
from ltvr.config.config import Config
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.longtail import Int64Array, imagenet_lt_counts
from ltvr.engine import training
from ltvr.engine.cut import Cut
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.trained import load_trained
from ltvr.engine.whole import Whole
from ltvr.runs.folder import Run
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions
from ltvr.settings import load_config
from ltvr.stages.features import Features

__all__ = ["agreement", "evaluation", "on_ranks", "order"]

STEPS = 20
"""Of which the losses are compared one by one."""
DIGITS = {
    "device": "cpu", "image_size": 8, "batch_size": 128, "synthesis_group": 32, "epochs": 8,
    "crt_epochs": 2, "lay_back_start": 0.0, "warmup_epochs": 0.0, "batchnorm_images": 0,
    "evaluate_every": 8, "lr": 0.05,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "BatchNorm frozen": {"crt_batchnorm": "eval"},
    "BatchNorm per rank": {},
    "BatchNorm per rank, mixup": {"mixing": "mixup"},
}


# ---- ranks ----


def on_ranks(
    number: int, folder: Path, function: Callable[..., Any], *arguments: Any, join: bool = True
) -> list[Any]:
    """What ``function(*arguments)`` returns on every rank, of ``number`` in forks of this process.

    Args:
        folder: an empty one, for what they say to each other.
        join: whether they do; otherwise they are processes that run at the same time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = (number if join else 1, folder, function, arguments)
    start_processes(_join, given, number, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(number)]


def _join(rank: int, number: int, folder: Path, function: Any, arguments: Any) -> None:
    torch.set_num_threads(1)
    if number > 1:
        store = dist.FileStore(str(folder / "store"), number)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=number)
    torch.save(function(*arguments), folder / f"{rank}.pt")
    if number > 1:
        distributed.barrier()
        dist.destroy_process_group()


# ---- a run ----


class Seen:
    """What a run draws and loses, seen from where it is decided.

    ``order`` and ``plans`` are digests, of the indices of every epoch, and of the labels, the plan
    and the mixture of every step. ``losses`` is this rank's part of the loss of every step.
    """

    def __init__(self) -> None:
        self.order, self.plans = hashlib.sha256(), hashlib.sha256()
        self.losses: list[float] = []
        self.steps = self.generated = 0

    def of_order(self, order: Int64Array) -> None:
        """Take in the order of an epoch."""
        self.order.update(order.tobytes())

    def of_whole(self, whole: Whole) -> None:
        """Take in the plan and the mixture of a step."""
        self.steps, self.generated = self.steps + 1, self.generated + whole.generated
        self.plans.update(repr(_values((whole.mixture, whole.plan))).encode())

    def of_loss(self, loss: torch.Tensor) -> None:
        """Take in a part of a step."""
        self.losses.append(loss.item())


def _values(value: Any) -> Any:
    """Nested tuples with tensors as lists: what is equal to the bit reads alike."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [_values(each) for each in value] if isinstance(value, tuple) else value


def _then(function: Callable[..., Any], see: Callable[[Any], None]) -> Callable[..., Any]:
    """``function``, whose results are seen."""

    def called(*arguments: Any) -> Any:
        found = function(*arguments)
        see(found)
        return found

    return called


def frozen(stage: Features, network: nn.Module) -> None:
    """The mode in which the images of a batch do not meet in BatchNorm."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def train(config: Config, folder: Path, freeze: bool) -> dict[str, Any]:
    """Train on the ranks that there are; what was seen and, on the first rank, the metrics."""
    seen = Seen()
    with (
        mock.patch.object(training, "_order", _then(training._order, seen.of_order)),
        mock.patch.object(training, "_loss", _then(training._loss, seen.of_loss)),
        mock.patch.object(Whole, "decide", _then(Whole.decide, seen.of_whole)),
        mock.patch.object(ltvr.training, "write_report"),
        mock.patch.object(Features, "train_mode", frozen if freeze else Features.train_mode),
    ):
        ltvr.training.train(config, folder)
    parts = torch.tensor(seen.losses, dtype=torch.float64).view(seen.steps, -1)
    losses = distributed.sum_over_ranks(parts.sum(1))
    return {
        "order": seen.order.hexdigest(),
        "plans": seen.plans.hexdigest(),
        "steps": seen.steps,
        "generated": seen.generated,
        "losses": losses[:STEPS].tolist(),
        "metrics": Run(folder).read_summary()["metrics"],
    }


def agreement(out: Path, seed: int) -> dict[str, Any]:
    """Train digits on 1, 2 and 4 ranks, in every variant.

    One process that takes the parts of the ranks one after the other (``accumulate``) is the
    control: it rounds the same sums as they do, so what is left between the two is theirs.
    """
    rows = {}
    for name, changes in VARIANTS.items():
        found = {}
        for number, parts in ((1, 1), (2, 1), (1, 2), (4, 1), (1, 4)):
            options = {**DIGITS, **changes, "accumulate": parts, "seed": seed}
            config = load_config("digits", "ltvr", options)
            key = f"{number} x {parts}"
            folder, freeze = out / f"{name}, {key}", name == "BatchNorm frozen"
            found[key] = on_ranks(number, folder, train, config, folder / "run", freeze)
        rows[name] = _compared(found)
        print(f"{name}: {rows[name]}", flush=True)
    return {"options": DIGITS, "variants": rows}


def _compared(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The runs of one variant, by ranks x micro-batches."""
    one = found["1 x 1"][0]
    alike = {
        what: all(rank[what] == one[what] for ranks in found.values() for rank in ranks)
        for what in ("order", "plans")
    }
    rows = {}
    for key, (first, *_) in found.items():
        rows[key] = {
            "losses": first["losses"],
            "top-1": {name: stage["all"] for name, stage in first["metrics"].items()},
            "from 1 x 1": _difference(first, one),
        }
        ranks, _, parts = key.partition(" x ")
        if parts == "1" and ranks != "1":
            rows[key][f"from 1 x {ranks}"] = _difference(first, found[f"1 x {ranks}"][0])
    seen = {name: one[name] for name in ("order", "plans", "steps", "generated")}
    return {**seen, **{f"same {k} on every rank": v for k, v in alike.items()}, "runs": rows}


def _difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """How far two runs are apart."""
    losses = np.abs(np.subtract(one["losses"], other["losses"]))
    mine, theirs = numbers(one["metrics"]), numbers(other["metrics"])
    return {
        "largest of a loss": float(losses.max()),
        "at step": int(losses.argmax()) + 1,
        "at the first step": float(losses[0]),
        "largest of a metric": max(abs(mine[k] - theirs[k]) for k in theirs),
        "of top-1": {k: one["metrics"][k]["all"] - v["all"] for k, v in other["metrics"].items()},
    }


def numbers(metrics: Any, name: str = "") -> dict[str, float]:
    """All numbers of nested metrics but of the confusion matrix, by their place."""
    if isinstance(metrics, (dict, list)):
        items = metrics.items() if isinstance(metrics, dict) else enumerate(metrics)
        nested = [numbers(v, f"{name}/{k}") for k, v in items if k != "confusion"]
        return {k: v for each in nested for k, v in each.items()}
    is_number = isinstance(metrics, (int, float)) and not isinstance(metrics, bool)
    return {name: float(metrics)} if is_number else {}


# ---- order ----


def order(out: Path, seed: int) -> dict[str, Any]:
    """Cut an epoch in class-aware order among ranks, and count what each has of each class."""
    counts, batch, group = np.array(imagenet_lt_counts()), 512, 32
    labels = np.repeat(np.arange(len(counts)), counts)
    sampler = ClassAware(ClassAwareOptions())
    whole = sampler.epoch(labels, seed=stream(seed, "crt"), epoch=0, epochs=10)
    batches = whole[: len(whole) // batch * batch].reshape(-1, batch)
    rows = {}
    for ranks in (1, 2, 4, 8):
        cuts = [Cut(batch, batch // group, 1, ranks, rank) for rank in range(ranks)]
        together = np.full_like(batches, -1)
        classes = []
        for cut in cuts:
            (places,) = cut.places
            together[:, places] = batches[:, places]
            classes.append(np.bincount(labels[batches[:, places]].ravel(), minlength=len(counts)))
        a_class = np.array(classes)  # [W, C]
        rows[ranks] = {
            "sha256 of the batches": hashlib.sha256(together.tobytes()).hexdigest(),
            "images of a rank and step": cuts[0].rows,
            "images of a class on each rank": [
                {"least": int(own.min()), "mean": float(own.mean()), "most": int(own.max())}
                for own in a_class
            ],
            "largest difference between ranks": int(np.ptp(a_class, axis=0).max()),
            "mean difference between ranks": float(np.ptp(a_class, axis=0).mean()),
            "classes that a rank never sees": int((a_class == 0).sum()),
        }
    digests = {row["sha256 of the batches"] for row in rows.values()}
    images = {"images": len(labels), "classes": len(counts), "steps": len(batches)}
    same = {"same batches": len(digests) == 1}
    print(f"order: {same}", flush=True)
    return {**images, "batch": batch, "group": group, **same, "ranks": rows}


# ---- evaluation ----


def evaluation(out: Path, seed: int) -> dict[str, Any]:
    """Evaluate a trained run on 1 to 4 ranks, on a number of images that is prime."""
    config = load_config("digits", "ltvr", {**DIGITS, "seed": seed})
    on_ranks(1, out / "training", train, config, out / "run", False)
    found = {}
    for number in (1, 2, 3, 4):
        ranks = on_ranks(number, out / f"ranks-{number}", measured, out / "run", 499, 64)
        assert all(each == ranks[0] for each in ranks)
        found[number] = ranks[0]
    one = found[1]
    difference = {
        k: abs(v["calibration_error"] - one["calibration_error"]) for k, v in found.items()
    }
    rows = {
        "images": int(np.sum(one["confusion"])),
        "same confusion matrix": all(v["confusion"] == one["confusion"] for v in found.values()),
        "same accuracies": all(v["per_class"] == one["per_class"] for v in found.values()),
        "largest difference of the calibration error": max(difference.values()),
        "top-1": one["all"],
        "confusion": one["confusion"],
    }
    print(f"evaluation: {rows}", flush=True)
    return rows


def measured(path: Path, images: int, size: int) -> dict[str, Any]:
    """Metrics of a run on the first ``images`` of its test split, in batches of ``size``."""
    trained = load_trained(path, "cpu")
    config = trained.config.replaced(eval_batch_size=size)
    data = load_data(config)
    test = Batches(data.test.take(np.arange(images)), config, trained.device)
    return evaluate_split(trained.network, test, data.counts, confusion=True)
