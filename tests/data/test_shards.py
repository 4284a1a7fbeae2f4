"""Shards: an order read from them gives what it gives from files, to the bit."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import config_of
from PIL import Image

import ltvr.shard
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data, load_split, stub_data
from ltvr.data.manifest import manifest
from ltvr.data.shards import write_shards
from ltvr.errors import UserError
from ltvr.samplers.class_aware import ClassAware

CPU = torch.device("cpu")
COUNTS = {"train": (7, 4, 2), "val": (1, 1, 1), "test": (2, 2, 2)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of JPEG files of several sizes, and one grey picture of 16 bits."""
    root, random = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for split, counts in COUNTS.items():
        for k, count in enumerate(counts):
            (root / split / f"class {k}").mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (90 + 5 * i, 120, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / f"class {k}" / f"é{i}.jpg")
    deep = random.integers(100, 3000, (80, 80)).astype(np.uint16)
    Image.fromarray(deep).save(root / "train/class 1/deep.png")
    return root


@pytest.fixture(scope="module")
def shards(files, tmp_path_factory):
    pytest.importorskip("litdata", reason="pip install 'ltvr[streaming]'")
    folder = tmp_path_factory.mktemp("shards") / "new"
    config = config_of(dataset="folder", root=str(files), image_size=72)
    written = write_shards(load_data(config), folder, str(files))
    assert written == {"train": 14, "val": 3, "test": 6}
    return folder


def read(config):
    """All images of an epoch of training, in the class-aware order, and of the test."""
    data = load_data(config)
    order = ClassAware(ClassAware.options_type()).epoch(
        data.train.labels, seed=3, epoch=1, epochs=2
    )
    train = Batches(data.train, config, CPU).train(order, 4, seed=3, epoch=1)
    return data, [*train, *Batches(data.test, config, CPU).evaluate(4)]


@pytest.mark.parametrize(
    ("address", "size", "augmentation", "workers"),
    [("", 72, "imagenet", 2), ("", 24, "crop-flip", 0), ("local:", 72, "crop", 1)],
)
def test_an_order_gives_the_same_images_and_labels(
    files, shards, monkeypatch, tmp_path, address, size, augmentation, workers
):
    monkeypatch.setenv("DATA_OPTIMIZER_CACHE_FOLDER", str(tmp_path))
    common = {"image_size": size, "augmentation": augmentation, "workers": workers, "imbalance": 3}
    first = config_of(dataset="folder", root=str(files), **common)
    second = config_of(dataset="shards", root=f"{address}{shards}", **common)
    (one, expected), (other, found) = read(first), read(second)
    assert len(expected) == len(found) > 3
    for (images, labels), (same, alike) in zip(expected, found, strict=True):
        assert torch.equal(images, same) and torch.equal(labels, alike)
    assert one.ranges == other.ranges != {} and one.classes == other.classes
    records = [manifest(data, each)["splits"] for data, each in ((one, first), (other, second))]
    for name, record in records[0].items():
        assert record["sha256"] == records[1][name]["sha256"]
    assert [str(files / path) for path in other.train.paths] == [str(p) for p in one.train.paths]
    assert stub_data(second, CPU).counts.tolist() == one.counts.tolist()
    validation = load_split(second, "val", one.classes, one.ranges)
    assert validation is not None and len(validation) == 3


def test_what_is_in_memory_becomes_shards_too(shards, tmp_path):
    data, few = load_data(config_of(dataset="digits")), np.arange(0, 500, 20)
    data = replace(data, train=data.train.take(few), test=data.test.take(few))
    write_shards(data, tmp_path / "new", "")
    read = load_data(config_of(dataset="shards", root=str(tmp_path / "new")))
    assert torch.equal(read.test.images, data.test.images) and read.val is None
    assert (read.train.labels == data.train.labels).all() and read.classes == data.classes


@pytest.mark.parametrize("size", [24, 72])
def test_a_hold_out_is_that_of_the_files_and_leaves_the_test_shards_alone(
    files, shards, tmp_path, size
):
    for name in ("facts", "train", "val"):
        shutil.copytree(shards / name, tmp_path / name)
    common = {"image_size": size, "holdout": 2, "workers": 0}
    for source in ("train", "val"):
        configs = [
            config_of(dataset=dataset, root=str(root), holdout_from=source, **common)
            for dataset, root in (("folder", files), ("shards", tmp_path))
        ]
        (one, expected), (other, found) = map(read, configs)
        assert len(one.test) == len(other.test) == {"train": 5, "val": 3}[source]
        for (images, labels), (same, alike) in zip(expected, found, strict=True):
            assert torch.equal(images, same) and torch.equal(labels, alike)


def test_the_command_writes_all_images(command, files, shards, tmp_path):
    given = ("--dataset", "folder", "--root", files)
    code, out, err = command(ltvr.shard, tmp_path / "new", *given)
    assert code == 0 and "14 train, 3 val, 6 test images" in out, err
    for path in shards.rglob("*.bin"):
        assert path.read_bytes() == (tmp_path / "new" / path.relative_to(shards)).read_bytes()
    code, _, err = command(ltvr.shard, shards, *given)
    assert code == 2 and "is not empty; name another folder" in err


def test_shards_that_are_none_or_damaged_are_a_line(shards, tmp_path):
    (tmp_path / "empty").mkdir()
    config = config_of(dataset="shards", root=str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"has no shards; write them with python -m ltvr\.shard"):
        load_data(config)
    with pytest.raises(UserError, match="other classes"):
        load_split(config.replaced(root=str(shards)), "test", ["a", "b", "c"], {})
    damaged = tmp_path / "damaged"
    for name in ("facts", "train", "val", "test"):
        (damaged / name).mkdir(parents=True)
        for path in (shards / name).iterdir():
            content = path.read_bytes()
            cut = name == "train" and path.suffix == ".bin"
            (damaged / name / path.name).write_bytes(
                content[: len(content) // 2] if cut else content
            )
    config = config_of(dataset="shards", root=str(damaged), image_size=72, workers=1)
    with pytest.raises(UserError, match=r"^image train/class \d/.*(cannot be read|is corrupt)"):
        read(config)


def test_without_the_package_it_is_a_line(monkeypatch, command, tmp_path):
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(UserError, match=r"shards need LitData: pip install 'ltvr\[streaming\]'"):
        load_data(config_of(dataset="shards", root=str(tmp_path)))
    code, _, err = command(ltvr.shard, tmp_path / "new")
    assert code == 2 and "pip install 'ltvr[streaming]'" in err and not (tmp_path / "new").exists()
