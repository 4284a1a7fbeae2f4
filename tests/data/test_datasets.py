"""Reading images: CIFAR's files, folders, lists, and the manifest of what was read."""

import hashlib
import pickle

import numpy as np
import torch
from conftest import config_of

from ltvr.data.datasets import load_data
from ltvr.data.longtail import longtail_counts, longtail_indices
from ltvr.data.manifest import manifest

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10(root, images, labels, monkeypatch):
    """CIFAR-10's official files, with few images; torchvision would miss the official digests."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    names = [f"data_batch_{k}" for k in range(1, 6)]
    for name, rows in zip(names, np.split(np.arange(len(labels)), 5), strict=True):
        content = {"data": flat[rows], "labels": labels[rows].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    test = {"data": flat[:10], "labels": labels[:10].tolist()}
    (folder / "test_batch").write_bytes(pickle.dumps(test))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)


def test_cifar_and_a_folder_of_the_same_images_give_the_same_subset(
    tmp_path, write_images, monkeypatch
):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 20))
    names = [f"train/{CLASSES[k]}/{i:05d}.png" for i, k in enumerate(labels)]
    pixels = write_images(tmp_path, names, size=32)
    write_images(tmp_path, ["test/cat/0.png"], size=32)
    write_cifar10(tmp_path / "official", pixels, labels, monkeypatch)
    config = config_of(dataset="cifar10", root=str(tmp_path / "official"), imbalance=5.0)
    official = load_data(config)
    folder = load_data(config.replaced(dataset="folder", root=str(tmp_path)))
    assert official.counts.tolist() == longtail_counts(20, 10, 5.0)
    chosen = longtail_indices(labels, longtail_counts(20, 10, 5.0))
    assert official.train.indices.tolist() == chosen.tolist()
    expected = torch.from_numpy(pixels[chosen]).permute(0, 3, 1, 2)
    for data in (official, folder):
        assert torch.equal(data.train.images, expected)
        assert data.train.labels.tolist() == labels[chosen].tolist()
        assert data.classes == CLASSES
    assert len(official.test) == 10


def test_folder_of_any_image_type(tmp_path, write_images):
    files = ["a/1.png", "a/2.webp", "a/3.JPG", "a/4.bmp", "b/1.gif", "b/2.tiff", "b/3.ppm"]
    pixels = write_images(tmp_path / "train", files)
    write_images(tmp_path / "test", ["a/1.png", "b/1.png", "b/2.png"])
    write_images(tmp_path / "val", ["b/1.png"])
    (tmp_path / "train" / "a" / "notes.txt").write_text("not an image")
    config = config_of(dataset="folder", root=str(tmp_path), image_size=8)
    data = load_data(config)
    assert data.classes == ["a", "b"] and data.counts.tolist() == [4, 3]
    assert torch.equal(data.train.images[0], torch.from_numpy(pixels[0]).permute(2, 0, 1))
    assert data.test.labels.tolist() == [0, 1, 1] and data.val.labels.tolist() == [1]
    resized = load_data(config.replaced(image_size=16))
    assert resized.train.images.shape == (7, 3, 16, 16)
    on_disk = load_data(config.replaced(image_size=65))
    assert list(on_disk.train.images.paths) == [tmp_path / "train" / f for f in files]


def test_list_files(tmp_path, write_images):
    names = [f"n0{k}/image {k}{i}.png" for k in range(3) for i in range(3 - k)]
    pixels = write_images(tmp_path, names)
    lines = [f"{name} {name[2]}\n" for name in names]
    (tmp_path / "lists").mkdir()
    for split, rows in (("train", lines), ("val", lines[:2]), ("test", lines[1:4])):
        (tmp_path / "lists" / f"ImageNet_LT_{split}.txt").write_text("".join(rows) + "\n")
    config = config_of(
        dataset="imagenet-lt", root=str(tmp_path), lists=str(tmp_path / "lists"), image_size=8
    )
    data = load_data(config)
    assert data.counts.tolist() == [3, 2, 1] and data.classes == ["0", "1", "2"]
    assert data.val.labels.tolist() == [0, 0] and data.test.labels.tolist() == [0, 0, 1]
    expected = torch.from_numpy(pixels[1:4]).permute(0, 3, 1, 2)
    assert torch.equal(data.test.images, expected)


def test_digits_test_set_is_balanced_and_apart_from_training():
    data = load_data(config_of(imbalance=20.0, image_size=16))
    full = load_data(config_of(image_size=16)).counts
    assert full.sum() == 1797 - 500 and np.bincount(data.test.labels).tolist() == [50] * 10
    tail = np.minimum(longtail_counts(full.max(), 10, 20.0), full)
    assert data.counts.tolist() == tail.tolist()
    assert not set(data.train.indices) & set(data.test.indices)


def test_manifest_names_the_images(tmp_path, write_images):
    for split in ("train", "test"):
        write_images(tmp_path / split, ["a/1.png", "a/2.png", "b/3.png"])
    config = config_of(dataset="folder", root=str(tmp_path), image_size=8)
    data = load_data(config)
    described = manifest(data, config)
    train = described["splits"]["train"]
    assert described["train_counts"] == [2, 1] and described["classes"] == ["a", "b"]
    assert train["images"] == 3 and train["indices"] == [0, 1, 2] and "val" not in described
    content = data.train.labels.tobytes() + data.train.images.numpy().tobytes()
    assert train["sha256"] == hashlib.sha256(content).hexdigest()
    write_images(tmp_path / "train", ["b/3.png"], seed=1)
    changed = manifest(load_data(config), config)["splits"]
    assert changed["train"]["sha256"] != train["sha256"]
    assert changed["test"] == described["splits"]["test"]

    large = config.replaced(image_size=65)
    on_disk = manifest(load_data(large), large)["splits"]["train"]
    content, names = hashlib.sha256(data.train.labels.tobytes()), data.train.labels.tobytes()
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        file = (tmp_path / "train" / name).read_bytes()
        content.update(hashlib.sha256(file).hexdigest().encode())
        names += f"train/{name}\n".encode()
    assert on_disk["sha256"] == content.hexdigest()
    assert on_disk["names_sha256"] == hashlib.sha256(names).hexdigest()  # as 0.1 wrote
