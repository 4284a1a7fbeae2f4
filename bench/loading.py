"""Read images from disk: ltvr against the reference loader of torchvision, and memory over epochs.

    python bench/loading.py make FOLDER [--images 20000]
    python bench/loading.py time FOLDER [--workers 1 2] [--json FILE]
    python bench/loading.py memory FOLDER [--workers 2] [--json FILE]
    python bench/loading.py shards FOLDER --shards SHARDS [--json FILE]

``make`` writes JPEGs of 500 x 400 pixels and about 50 kB in 100 classes. ``time`` reads the same
images of them with both in turn and compares each pair; the reference is what torchvision's
``references/classification/train.py`` does: ``ImageFolder``, random resized crops of 224 pixels,
flips, float32 and normalisation by the workers of a ``DataLoader``, which are kept between passes
here, as ours are. Both end with normalised float32 on the device. Before any time is reported, both
must give the same pixels where nothing is random. ``memory`` sums the proportional set size (PSS)
of this process and its workers after each of several passes over all images. ``shards`` compares
the reading alone of images at random from their files and from what ``ltvr.shard`` made of these.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image, ImageChops
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from ltvr.config.config import Config
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.longtail import Int64Array
from ltvr.settings import SCHEMA

WIDTH, HEIGHT, SIDE, CLASSES = 500, 400, 224, 100
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = ((4, 120), (12, 60), (40, 40), (125, 30))
"""Of a picture: noise of so many columns, and how strong."""
SEED = 0


# ---- images ----


def picture(index: int) -> Image.Image:
    """Noise that is stronger the coarser it is, as in photographs."""
    random, shown = np.random.default_rng([SEED, index]), None
    for columns, strength in LAYERS:
        shape = columns * HEIGHT // WIDTH, columns, 3
        grid = random.integers(128 - strength, 128 + strength, shape).astype(np.uint8)
        layer = Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        shown = layer if shown is None else ImageChops.add(shown, layer, offset=-128)
    assert shown is not None
    return shown


def write(folder: Path, index: int) -> None:
    """Write one training image; of each class the first is a test image as well."""
    name = f"{index % CLASSES:03d}/{index:06d}.jpg"
    shown = picture(index)
    for split in ("train", "test")[: 1 + (index < CLASSES)]:
        path = folder / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shown.save(path, quality=90)


def make(folder: Path, images: int) -> None:
    """Write all images, in as many processes as there are cores."""
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write, folder), range(images), chunksize=64))


# ---- both loaders ----


def config_of(folder: Path, workers: int, **changes: Any) -> Config:
    """What the reference does, in options."""
    values: dict[str, Any] = {
        "dataset": "folder", "root": str(folder), "image_size": SIDE, "augmentation": "imagenet",
        "colour_jitter": 0.0, "resize": "short-side-crop", "workers": workers, "mean": MEAN,
        "std": STD, "imbalance": 1.0, "channels_last": False,
    }  # fmt: skip
    return SCHEMA.config({**values, **changes})


class Ours:
    """Batches of ltvr."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.batches = Batches(load_data(config).train, config, device)
        self.passes = 0

    def read(self, order: Int64Array, batch: int) -> Iterator[Tensor]:
        """One pass."""
        self.passes += 1
        for images, _ in self.batches.train(order, batch, seed=SEED, epoch=self.passes):
            yield images


class Reference:
    """torchvision's reference loader; ``jitter`` as ltvr's ``colour_jitter``."""

    def __init__(
        self, folder: Path, workers: int, batch: int, jitter: float, device: torch.device
    ) -> None:
        steps = [
            transforms.RandomResizedCrop(SIDE, antialias=True),
            transforms.RandomHorizontalFlip(0.5),
            *([transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize(MEAN, STD),
        ]
        self.order: list[int] = []
        self.device = device
        self.loader = DataLoader(
            ImageFolder(str(folder / "train"), transforms.Compose(steps)),
            batch_size=batch,
            sampler=Orders(self),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            drop_last=True,
            persistent_workers=workers > 0,
        )

    def read(self, order: Int64Array, batch: int) -> Iterator[Tensor]:
        """One pass."""
        self.order = order.tolist()
        for images, labels in self.loader:
            labels.to(self.device, non_blocking=True)
            yield images.to(self.device, non_blocking=True)


class Orders(Iterable[int]):
    """The order of the pass that begins."""

    def __init__(self, of: Reference) -> None:
        self.of = of

    def __iter__(self) -> Iterator[int]:
        return iter(self.of.order)

    def __len__(self) -> int:
        return len(self.of.order)


def check(folder: Path, device: torch.device) -> None:
    """Refuse to go on unless both give the same images where nothing is random."""
    config = config_of(folder, 0)
    images, _ = next(Batches(load_data(config).test, config, device).evaluate(4))
    steps = [
        transforms.Resize(SIDE * 256 // 224),
        transforms.CenterCrop(SIDE),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    reference = ImageFolder(str(folder / "test"), transforms.Compose(steps))
    expected = torch.stack([reference[i][0] for i in range(4)]).to(device)
    difference = (images - expected).abs().max().item()
    if difference > 1e-5:
        raise SystemExit(f"images differ by {difference}: no times")


# ---- measurements ----


def rate(loader: Ours | Reference, order: Int64Array, batch: int) -> tuple[float, float]:
    """Images a second of one pass, and milliseconds of all processes for each image."""
    began, busy, seen = time.perf_counter(), cpu_seconds(), 0
    for images in loader.read(order, batch):
        seen += len(images)
    seconds = time.perf_counter() - began
    return seen / seconds, 1e3 * (cpu_seconds() - busy) / seen


def family() -> list[int]:
    """This process and its workers."""
    workers = sorted(p.pid or 0 for p in multiprocessing.active_children())
    return [multiprocessing.current_process().pid or 0, *workers]


def cpu_seconds() -> float:
    """What this process and its workers have computed so far; another one's load is not in it."""
    ticks = 0
    for pid in family():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def compare(folder: Path, workers: int, jitter: float, options: argparse.Namespace) -> Any:
    """Time both in turn, each round on images of its own, the first of a round in turn as well."""
    device = torch.device(options.device)
    ours = Ours(config_of(folder, workers, colour_jitter=jitter), device)
    theirs = Reference(folder, workers, options.batch, jitter, device)
    number, random = len(ours.batches.split), np.random.default_rng(SEED)
    found: dict[str, list[tuple[float, float]]] = {"ltvr": [], "torchvision": []}
    for turn in range(options.rounds + 1):
        order = random.permutation(number)[: options.images]
        both: list[tuple[str, Ours | Reference]] = [("ltvr", ours), ("torchvision", theirs)]
        for name, loader in both[:: 1 - 2 * (turn % 2)]:
            measured = rate(loader, order, options.batch)
            if turn:  # the first starts the workers
                found[name].append(measured)
    names = ("images_per_second", "cpu_milliseconds_an_image")
    rates = {
        name: {of: [round(each[k], 3) for each in values] for of, values in found.items()}
        for k, name in enumerate(names)
    }
    return {"workers": workers, "colour_jitter": jitter, **rates} | {
        f"{name}_ltvr_over_torchvision": ratio(*values.values()) for name, values in rates.items()
    }


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Of each pair: the median, the least and the most."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    summary = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {name: round(value, 3) for name, value in summary.items()}


def proportional() -> dict[str, float]:
    """MB of this process and its workers: pages that several have in part for each."""
    found = {}
    for number, pid in enumerate(family()):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        found[f"worker {number}" if number else "process"] = round(kilobytes / 1e3, 1)
    return {**found, "all": round(sum(found.values()), 1)}


def memory(folder: Path, workers: int, options: argparse.Namespace) -> Any:
    """Memory after each of several passes over all images."""
    ours = Ours(config_of(folder, workers), torch.device(options.device))
    number, seen = len(ours.batches.split), []
    for each in range(options.epochs):
        began = time.perf_counter()
        for _ in ours.read(np.random.default_rng([SEED, each]).permutation(number), options.batch):
            pass
        seconds = round(time.perf_counter() - began, 1)
        seen.append({"epoch": each + 1, "seconds": seconds, "pss_megabytes": proportional()})
        print(seen[-1], flush=True)
    return {"workers": workers, "images": number, "epochs": seen}


def reading(folder: Path, shards: Path, options: argparse.Namespace) -> Any:
    """Microseconds to read an image at random, without decoding it."""
    places = {
        "files": config_of(folder, 0),
        "shards": config_of(shards, 0, dataset="shards"),
        "fetched": config_of(Path(f"local:{shards}"), 0, dataset="shards"),
    }
    found = {name: load_data(config).train.images for name, config in places.items()}
    number = len(found["files"])
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(options.rounds):
        order = np.random.default_rng([SEED, turn]).permutation(number)[: options.images].tolist()
        for name, images in found.items():
            assert not isinstance(images, Tensor)
            began = time.perf_counter()
            contents = [images.content(i) for i in order]
            times[name].append(round(1e6 * (time.perf_counter() - began) / len(order), 1))
            if contents != [found["files"].content(i) for i in order]:  # type: ignore[union-attr]
                raise SystemExit(f"{name} has other images: no times")
    return {"images": number, "microseconds_an_image": times}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("make", "time", "memory", "shards"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, help="to make, or of a pass that is timed")
    parser.add_argument("--shards", type=Path, help="what ltvr.shard made of the folder")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--jitter", type=float, nargs="+", default=[0.0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.images or 20_000)
        return
    options.images = options.images or 1024
    results = []
    if options.what == "time":
        check(options.folder, torch.device(options.device))
        for workers in options.workers:
            for jitter in options.jitter:
                results.append(compare(options.folder, workers, jitter, options))
                print(json.dumps(results[-1]), flush=True)
    elif options.what == "shards":
        results = [reading(options.folder, options.shards, options)]
        print(json.dumps(results[0]))
    else:
        results = [memory(options.folder, options.workers[-1], options)]
    if options.json:
        names = {str(options.folder): "FOLDER", str(options.shards): "SHARDS"}
        command = [names.get(word, word) for word in sys.argv[1:]]
        options.json.write_text(json.dumps(record(command, results), indent=1) + "\n")


def record(command: list[str], results: list[Any]) -> dict[str, Any]:
    """Results, with what they depend on."""
    cpu = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if s.startswith("model name")]
    return {
        "command": " ".join(["python bench/loading.py", *command]),
        "date": datetime.date.today().isoformat(),
        "device": f"{cpu[0].split(':')[1].strip()}, {len(cpu)} cores",
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
            **({"litdata": metadata.version("litdata")} if "shards" in command else {}),
        },
        "seed": SEED,
        "results": results,
    }


if __name__ == "__main__":
    main()
