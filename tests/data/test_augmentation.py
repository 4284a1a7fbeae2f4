"""Random changes of images on disk: as torchvision makes them, from numbers drawn for a batch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import config_of
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from ltvr.clock import mix
from ltvr.data.augmentation import (
    ORDERS,
    TRIES,
    UNIFORMS,
    _random_box,
    draw,
    jittered,
    random_resized_crop,
)
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.options import DataOptions

CPU = torch.device("cpu")
IMAGENET = DataOptions(augmentation="imagenet", image_size=72)
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
PICTURE = Image.fromarray(PIXELS)


@pytest.mark.parametrize(
    ("area", "ratio", "box"),
    [
        (0.0, 0.5, (20, 35, 21, 21)),  # 0.08 of the area, a square: 432 = 20.8 x 20.8
        (0.5, 1.0, (7, 14, 47, 62)),  # 0.54, the widest: 2916 = 62.4 x 46.8
        (1.0, 0.5, (0, 5, 60, 80)),  # the whole as a square does not fit: the middle of 4 : 3
    ],
)
def test_a_random_resized_crop_is_what_its_numbers_say(area, ratio, box):
    uniforms = np.array([area, ratio] * TRIES + [0.5, 0.5] + [0.0] * 4)
    expected = F.resized_crop(PICTURE, *box, [32, 32])
    assert np.array_equal(random_resized_crop(PICTURE, 32, uniforms), expected)


def test_crops_are_spread_as_torchvision_spreads_them():
    """Places and sides of 4,000 crops, by their means and deviations."""
    transform = v2.RandomResizedCrop(72)
    torch.manual_seed(0)
    drawn = [transform.make_params([PICTURE]) for _ in range(4000)]
    expected = [(p["left"], p["top"], p["width"], p["height"]) for p in drawn]
    uniforms = draw(4000, IMAGENET, seed=1).uniforms[:, : 2 * TRIES + 2].tolist()
    boxes = np.array([_random_box(90, 60, row) for row in uniforms])
    boxes[:, 2:] -= boxes[:, :2]
    for ours, theirs in zip(boxes.T, np.array(expected).T, strict=True):
        error = math.sqrt((ours.var() + theirs.var()) / 4000)
        assert abs(ours.mean() - theirs.mean()) < 4 * error
        assert abs(ours.std() / theirs.std() - 1) < 0.05


def test_colours_change_as_torchvision_changes_them():
    for order, (first, second, third) in enumerate(ORDERS):
        shares = np.array([0.1, 0.6, 0.9])
        uniforms = np.zeros(UNIFORMS)
        uniforms[-4:] = *shares, (order + 0.5) / len(ORDERS)
        adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
        expected = PICTURE
        for k in (first, second, third):
            expected = adjust[k](expected, 1 + 0.4 * (2 * shares[k] - 1))
        assert np.array_equal(jittered(PICTURE, 0.4, uniforms), expected)


@pytest.mark.parametrize("augmentation", ["crop", "crop-flip"])
def test_an_image_on_disk_is_changed_as_one_in_memory(tmp_path, write_images, augmentation):
    """One is cropped by who reads it and flipped on the device, the other all on the device."""
    config, images = on_disk(tmp_path, write_images, augmentation=augmentation)
    whole = torch.from_numpy(images).permute(0, 3, 1, 2)
    files = load_data(config).train
    memory = replace(files, images=whole)
    order = np.array([4, 0, 3, 3])
    first, second = (
        next(Batches(each, config, CPU).train(order, 4, seed=2, epoch=1))
        for each in (files, memory)
    )
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_half_of_the_random_resized_crops_are_flipped(tmp_path, write_images):
    config, _ = on_disk(tmp_path, write_images, augmentation="imagenet", colour_jitter=0.0)
    order = np.resize(np.arange(6), 60)
    batches = Batches(load_data(config).train, config, CPU)
    (images, _), *_ = batches.train(order, 60, seed=2, epoch=1)
    draws = draw(60, config.of(DataOptions), mix(2, 1, 0))
    assert 15 < draws.flip.sum() < 45
    for image, sample, uniforms, mirrored in zip(
        images, order, draws.uniforms, draws.flip, strict=True
    ):
        path = batches.split.paths[int(sample)]
        expected = F.pil_to_tensor(random_resized_crop(Image.open(path), 72, uniforms)).float()
        assert torch.equal(image, expected.flip(-1) / 255 if mirrored else expected / 255)


def on_disk(folder, write_images, **changes):
    """A configuration that does not normalise, and its training images of its size."""
    names = [f"{split}/{c}/{i}.png" for split in ("train", "test") for c in "ab" for i in range(3)]
    pixels = write_images(folder, names, size=72)
    fixed = {"dataset": "folder", "root": str(folder), "image_size": 72, "workers": 0}
    return config_of(mean=(0, 0, 0), std=(1, 1, 1), **fixed, **changes), pixels[:6]
