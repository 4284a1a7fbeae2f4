"""Which images a run sees, in which order, and how they are augmented."""

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ltvr.config import Config
from ltvr.data.batches import Batches, mix
from ltvr.data.datasets import Split, load_data, read_image
from ltvr.data.longtail import longtail_counts, longtail_indices
from ltvr.data.manifest import manifest
from ltvr.data.samplers import epoch_order

CPU = torch.device("cpu")


# ---- long-tailed subsets ----


def test_cifar_lt_counts_are_the_fields():
    ir100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert longtail_counts(5000, 10, 100) == ir100
    totals = {
        5000: {10: 20431, 50: 13996, 100: 12406, 200: 11203},
        500: {10: 19573, 50: 12608, 100: 10847, 200: 9502},
    }
    for n_max, by_imbalance in totals.items():
        for imbalance, total in by_imbalance.items():
            counts = longtail_counts(n_max, 50000 // n_max, imbalance)
            assert (sum(counts), counts[0]) == (total, n_max)
    assert longtail_counts(5000, 10, 100, "step") == [5000] * 5 + [50] * 5
    assert longtail_counts(500, 100, 10, "none") == [500] * 100
    with pytest.raises(ValueError, match="imbalance = 0.5"):
        longtail_counts(500, 100, 0.5)


def test_cifar_lt_subset_is_the_fields_index_for_index():
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(10), 5000))
    counts = longtail_counts(5000, 10, 100)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (looked at, not used)
    chosen = longtail_indices(labels, counts)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    ranks = np.searchsorted(np.flatnonzero(labels == 0), chosen[:8])
    assert ranks.tolist() == [398, 3833, 4836, 4572, 636, 2545, 1161, 2230]
    stream, expected = np.random.RandomState(0), []  # one stream for all classes
    for k, n in enumerate(counts):
        of_class = [i for i in range(50000) if labels[i] == k]
        stream.shuffle(of_class)
        expected += of_class[:n]
    assert chosen.tolist() == expected
    assert longtail_indices(labels, counts, data_seed=1).tolist() != expected


# ---- reading ----

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
    config = Config(dataset="cifar10", root=str(tmp_path / "official"), imbalance=5.0)
    official = load_data(config)
    folder = load_data(replace(config, dataset="folder", root=str(tmp_path)))
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
    config = Config(dataset="folder", root=str(tmp_path), image_size=8)
    data = load_data(config)
    assert data.classes == ["a", "b"] and data.counts.tolist() == [4, 3]
    assert torch.equal(data.train.images[0], torch.from_numpy(pixels[0]).permute(2, 0, 1))
    assert data.test.labels.tolist() == [0, 1, 1] and data.val.labels.tolist() == [1]
    resized = load_data(replace(config, image_size=16))
    assert resized.train.images.shape == (7, 3, 16, 16)
    deep = np.array([[0, 255], [256, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array(read_image(tmp_path / "deep.png"))[..., 2].tolist() == [[0, 0], [1, 255]]
    on_disk = load_data(replace(config, image_size=65))
    assert on_disk.train.images == [tmp_path / "train" / f for f in files]


def test_list_files(tmp_path, write_images):
    names = [f"n0{k}/image {k}{i}.png" for k in range(3) for i in range(3 - k)]
    pixels = write_images(tmp_path, names)
    lines = [f"{name} {name[2]}\n" for name in names]
    (tmp_path / "lists").mkdir()
    for split, rows in (("train", lines), ("val", lines[:2]), ("test", lines[1:4])):
        (tmp_path / "lists" / f"ImageNet_LT_{split}.txt").write_text("".join(rows) + "\n")
    config = Config(
        dataset="imagenet-lt", root=str(tmp_path), lists=str(tmp_path / "lists"), image_size=8
    )
    data = load_data(config)
    assert data.counts.tolist() == [3, 2, 1] and data.classes == ["0", "1", "2"]
    assert data.val.labels.tolist() == [0, 0] and data.test.labels.tolist() == [0, 0, 1]
    expected = torch.from_numpy(pixels[1:4]).permute(0, 3, 1, 2)
    assert torch.equal(data.test.images, expected)


def test_digits_test_set_is_balanced_and_apart_from_training():
    data = load_data(Config(imbalance=20.0, image_size=16))
    full = load_data(Config(image_size=16)).counts
    assert full.sum() == 1797 - 500 and np.bincount(data.test.labels).tolist() == [50] * 10
    tail = np.minimum(longtail_counts(full.max(), 10, 20.0), full)
    assert data.counts.tolist() == tail.tolist()
    assert not set(data.train.indices) & set(data.test.indices)


def test_manifest_names_the_images(tmp_path, write_images):
    for split in ("train", "test"):
        write_images(tmp_path / split, ["a/1.png", "a/2.png", "b/3.png"])
    config = Config(dataset="folder", root=str(tmp_path), image_size=8)
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

    large = replace(config, image_size=65)
    on_disk = manifest(load_data(large), large)["splits"]["train"]["sha256"]
    content = data.train.labels.tobytes() + b"train/a/1.png\ntrain/a/2.png\ntrain/b/3.png\n"
    assert on_disk == hashlib.sha256(content).hexdigest()


# ---- order ----

LABELS = np.repeat([0, 1, 2, 4], [600, 300, 90, 3])


def order(sampler, epoch=0, seed=0, epochs=10):
    return epoch_order(sampler, LABELS, seed=seed, epoch=epoch, epochs=epochs)


def test_every_order_is_a_pure_function_of_seed_and_epoch():
    for sampler in ("instance", "class-aware", "square-root", "progressive"):
        first = order(sampler, 1)
        assert len(first) == len(LABELS)
        assert (first == order(sampler, 1)).all()
        assert (first != order(sampler, 2)).any() and (first != order(sampler, 1, seed=1)).any()
    assert sorted(order("instance")) == list(range(len(LABELS)))
    with pytest.raises(ValueError, match="sampler = 'uniform'"):
        order("uniform")


def test_class_aware_takes_four_in_a_row_from_cycles_of_shuffled_classes():
    drawn = order("class-aware")
    visits = drawn[: len(drawn) // 4 * 4].reshape(-1, 4)
    visited = LABELS[visits[:, 0]]
    assert (LABELS[visits] == visited[:, None]).all()
    cycles = visited[: len(visited) // 4 * 4].reshape(-1, 4)
    assert (np.sort(cycles, 1) == [0, 1, 2, 4]).all()
    assert len(np.unique(cycles, axis=0)) > 10  # each cycle is shuffled anew
    head = drawn[LABELS[drawn] == 0]
    assert len(set(head)) == len(head) < 600  # no image twice before all were seen
    tail = drawn[LABELS[drawn] == 4]
    assert {tuple(sorted(lap)) for lap in tail[: len(tail) // 3 * 3].reshape(-1, 3)} == {
        (990, 991, 992)
    }


def frequencies(sampler, epoch):
    drawn = np.concatenate([order(sampler, epoch, seed) for seed in range(100)])
    assert len(np.unique(drawn)) == len(LABELS)
    return np.bincount(LABELS[drawn], minlength=5) / len(drawn)


def test_square_root_and_progressive_frequencies():
    n = np.array([600, 300, 90, 0, 3])
    root = np.sqrt(n) / np.sqrt(n).sum()
    np.testing.assert_allclose(frequencies("square-root", 3), root, atol=0.006)
    np.testing.assert_allclose(frequencies("progressive", 0), n / n.sum(), atol=0.006)
    later = 0.3 * n / n.sum() + 0.7 * (n > 0) / 4
    np.testing.assert_allclose(frequencies("progressive", 7), later, atol=0.006)


# ---- batches ----


def memory_split(number=12, size=6):
    g = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (number, 3, size, size), generator=g, dtype=torch.uint8)
    return Split(images, np.arange(number) % 3, np.arange(number))


@pytest.mark.parametrize("augmentation", ["crop-flip", "crop", "none"])
def test_augmentation_pads_crops_and_flips_each_image_on_its_own(augmentation):
    split, pad = memory_split(), 2
    config = Config(augmentation=augmentation, crop_padding=pad, image_size=6)
    rows = np.array([7, 0, 3, 3, 11])
    got, labels = next(Batches(split, config, CPU).train(rows, 5, seed=9, epoch=4))
    g = torch.Generator().manual_seed(mix(9, 4, 0))
    top = torch.randint(0, 2 * pad + 1, (5,), generator=g)
    left = torch.randint(0, 2 * pad + 1, (5,), generator=g)
    flip = torch.rand(5, generator=g) < 0.5
    for image, row, t, f, turned in zip(got, rows, top, left, flip, strict=True):
        pixels = split.images[row].numpy()
        if augmentation != "none":
            pixels = np.pad(pixels, ((0, 0), (pad, pad), (pad, pad)))[:, t : t + 6, f : f + 6]
        if augmentation == "crop-flip" and turned:
            pixels = pixels[:, :, ::-1]
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (config.mean, config.std))
        torch.testing.assert_close(
            image.double(), torch.from_numpy((pixels / 255 - mean) / std), rtol=1e-5, atol=1e-5
        )
    assert labels.tolist() == split.labels[rows].tolist()


@pytest.mark.parametrize("where", ["memory", "disk", "disk with workers"])
def test_a_later_start_gives_the_same_images(where, tmp_path, write_images):
    split = memory_split()
    config = Config(image_size=6, workers=2 if "workers" in where else 0)
    if "disk" in where:
        names = [f"{i}.png" for i in range(12)]
        write_images(tmp_path, names)
        split = replace(split, images=[tmp_path / n for n in names])
    batches, rows = Batches(split, config, CPU), np.random.default_rng(0).permutation(12)[:11]
    whole = list(batches.train(rows, 3, seed=1, epoch=2))
    late = list(batches.train(rows, 3, seed=1, epoch=2, start=2))
    assert len(whole) == 3 and len(late) == 1  # the incomplete batch is dropped
    assert torch.equal(whole[2][0], late[0][0]) and torch.equal(whole[2][1], late[0][1])
    other = next(batches.train(rows, 3, seed=1, epoch=3))
    assert not torch.equal(whole[0][0], other[0])


def test_evaluation_sees_every_image_once_in_order_and_unaugmented(tmp_path, write_images):
    names = [f"{i}.png" for i in range(5)]
    pixels = write_images(tmp_path, names, size=10)
    split = Split([tmp_path / n for n in names], np.arange(5), np.arange(5))
    config = Config(image_size=8, workers=0)  # resized to 9, then the centre 8
    on_disk = list(Batches(split, config, CPU).evaluate(2))
    assert [len(labels) for _, labels in on_disk] == [2, 2, 1]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    memory = Split(images, np.arange(5), np.arange(5))
    (image, labels), *_ = Batches(memory, config, CPU).evaluate(5)
    restored = image * torch.tensor(config.std).view(3, 1, 1) + torch.tensor(config.mean).view(
        3, 1, 1
    )
    torch.testing.assert_close(restored * 255, images.float(), rtol=1e-4, atol=1e-3)
    assert labels.tolist() == [0, 1, 2, 3, 4] and on_disk[0][0].shape == (2, 3, 8, 8)
