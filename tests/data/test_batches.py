"""Batches of images: augmented in training, whole and in order in evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import config_of

from ltvr.clock import mix
from ltvr.data.batches import Batches
from ltvr.data.images import Decoder
from ltvr.data.options import DataOptions
from ltvr.data.paths import Paths
from ltvr.data.splits import Files, Split

CPU = torch.device("cpu")
MEAN, STD = DataOptions().mean, DataOptions().std


def memory_split(number=12, size=6):
    g = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (number, 3, size, size), generator=g, dtype=torch.uint8)
    return Split(images, np.arange(number) % 3, np.arange(number))


def files_of(folder, names):
    return Files(Paths(folder / name for name in names), [""] * len(names), Decoder())


@pytest.mark.parametrize("augmentation", ["crop-flip", "crop", "none"])
def test_augmentation_pads_crops_and_flips_each_image_on_its_own(augmentation):
    split, pad = memory_split(), 2
    config = config_of(augmentation=augmentation, crop_padding=pad, image_size=6)
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
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (MEAN, STD))
        torch.testing.assert_close(
            image.double(), torch.from_numpy((pixels / 255 - mean) / std), rtol=1e-5, atol=1e-5
        )
    assert labels.tolist() == split.labels[rows].tolist()


@pytest.mark.parametrize("where", ["memory", "disk", "disk with workers"])
def test_a_later_start_gives_the_same_images(where, tmp_path, write_images):
    split = memory_split()
    config = config_of(image_size=6, workers=2 if "workers" in where else 0)
    if "disk" in where:
        names = [f"{i}.png" for i in range(12)]
        write_images(tmp_path, names)
        split = replace(split, images=files_of(tmp_path, names))
    batches, rows = Batches(split, config, CPU), np.random.default_rng(0).permutation(12)[:11]
    whole = list(batches.train(rows, 3, seed=1, epoch=2))
    late = list(batches.train(rows, 3, seed=1, epoch=2, start=2))
    assert len(whole) == 3 and len(late) == 1  # the incomplete batch is dropped
    assert torch.equal(whole[2][0], late[0][0]) and torch.equal(whole[2][1], late[0][1])
    other = next(batches.train(rows, 3, seed=1, epoch=3))
    assert not torch.equal(whole[0][0], other[0])


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_batch_in_parts_is_the_same_images(where, tmp_path, write_images):
    """So that the images of a run do not depend on its micro-batches and ranks."""
    split, config = memory_split(), config_of(image_size=6, workers=0)
    if where == "disk":
        names = [f"{i}.png" for i in range(12)]
        write_images(tmp_path, names)
        split = replace(split, images=files_of(tmp_path, names))
    batches, order = Batches(split, config, CPU), np.random.default_rng(0).permutation(12)
    whole = list(batches.train(order, 6, seed=1, epoch=2, start=1))
    rank = [np.array([1, 3]), np.array([5])]  # of two ranks with unequal micro-batches
    read = list(batches.train(order, 6, seed=1, epoch=2, start=1, parts=rank))
    assert len(whole) == 1 and len(read) == 2
    for rows, (images, labels) in zip(rank, read, strict=True):
        assert torch.equal(images, whole[0][0][rows]) and torch.equal(labels, whole[0][1][rows])
    shards = [each for r in (range(5), range(5, 12)) for each in batches.evaluate(4, r)]
    assert [len(labels) for _, labels in shards] == [4, 1, 4, 3]
    images, labels = next(batches.evaluate(12))
    assert torch.equal(torch.cat([each for each, _ in shards]), images)
    assert torch.equal(torch.cat([each for _, each in shards]), labels)


def test_reading_from_disk_draws_nothing_from_the_global_generator(tmp_path, write_images):
    """Or a run that is resumed within an epoch would draw other numbers after it (dropout)."""
    names = [f"{i}.png" for i in range(6)]
    write_images(tmp_path, names)
    split = Split(files_of(tmp_path, names), np.arange(6), np.arange(6))
    batches = Batches(split, config_of(image_size=6, workers=0), CPU)
    before = torch.get_rng_state()
    list(batches.train(np.arange(6), 3, seed=1, epoch=0))
    list(batches.evaluate(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_sees_every_image_once_in_order_and_unaugmented(tmp_path, write_images):
    names = [f"{i}.png" for i in range(5)]
    pixels = write_images(tmp_path, names, size=10)
    split = Split(files_of(tmp_path, names), np.arange(5), np.arange(5))
    config = config_of(image_size=8, workers=0)  # resized to 9, then the centre 8
    on_disk = list(Batches(split, config, CPU).evaluate(2))
    assert [len(labels) for _, labels in on_disk] == [2, 2, 1]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    memory = Split(images, np.arange(5), np.arange(5))
    (image, labels), *_ = Batches(memory, config, CPU).evaluate(5)
    restored = image * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    torch.testing.assert_close(restored * 255, images.float(), rtol=1e-4, atol=1e-3)
    assert labels.tolist() == [0, 1, 2, 3, 4] and on_disk[0][0].shape == (2, 3, 8, 8)
