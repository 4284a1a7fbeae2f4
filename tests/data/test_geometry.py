"""How images become square: the same in training and evaluation, in memory and on disk."""

import numpy as np
import pytest
import torch
from conftest import config_of
from PIL import Image
from torchvision.transforms import v2

from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.geometry import framed, squared
from ltvr.data.images import Decoder
from ltvr.data.options import DataOptions
from ltvr.data.readable import IN_MEMORY_PIXELS
from ltvr.data.splits import load_picture

LARGE = IN_MEMORY_PIXELS + 8
CPU = torch.device("cpu")


def wide_picture(width=300, height=100):
    """Black, its left edge red and its right edge green."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 20, 0] = pixels[:, -(width // 20) :, 1] = 255
    return Image.fromarray(pixels)


def test_each_rule():
    colour, picture = (0, 0, 200), wide_picture()
    squash = np.asarray(squared(picture, 40, "squash", colour)).astype(int)
    assert squash[:, 0].tolist() == [[255, 0, 0]] * 40 and squash[:, -1, 1].min() == 255
    padded = np.asarray(squared(picture, 60, "pad", colour)).astype(int)
    assert (padded[:18] == colour).all() and (padded[-18:] == colour).all()
    assert padded[30, 0].tolist() == [255, 0, 0] and padded[30, 30].tolist() == [0, 0, 0]
    cut = squared(picture, 84, "short-side-crop", colour)
    field = v2.Compose([v2.Resize(96), v2.CenterCrop(84)])
    assert cut.size == (84, 84) and (np.asarray(cut) == np.asarray(field(picture))).all()
    assert not np.asarray(cut).any()  # the edges are cut off
    for resize, side in (("squash", 100), ("pad", 100)):
        assert framed(picture, 80, resize, colour).size == (side, side)
    assert framed(picture, 80, "short-side-crop", colour) is picture
    assert np.asarray(squash).tolist() == np.asarray(picture.resize((40, 40), 2)).tolist()


@pytest.fixture
def one_image(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            wide_picture().save(tmp_path / split / name / "1.png")
    return tmp_path


@pytest.mark.parametrize("resize", ["squash", "short-side-crop", "pad"])
@pytest.mark.parametrize("size", [32, LARGE])
@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip"])
def test_training_sees_what_evaluation_sees(one_image, resize, size, augmentation):
    config = config_of(
        dataset="folder", root=str(one_image), image_size=size, resize=resize, workers=0,
        augmentation=augmentation, crop_padding=0, mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    data = load_data(config)
    batches = Batches(data.train, config, CPU)
    seen, _ = next(batches.evaluate(2))
    options = config.of(DataOptions)
    expected = load_picture(one_image / "train/a/1.png", Decoder(options.colour), options)
    torch.testing.assert_close(seen[0] * 255, expected.float())
    for epoch in range(4):
        trained, _ = next(batches.train(np.arange(2), 2, seed=0, epoch=epoch))
        for image in trained:
            same = [torch.equal(image, s) for s in (seen[0], seen[0].flip(-1))]
            assert same[0] or (augmentation == "crop-flip" and same[1])


def test_random_resized_crops_are_of_the_same_proportions(one_image):
    """Squashed, the edges of a wide image fill a sixth of it, in training too."""
    config = config_of(
        dataset="folder", root=str(one_image), image_size=LARGE, augmentation="imagenet",
        workers=0, mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    shown = {}
    for resize in ("squash", "pad", "short-side-crop"):
        changed = config.replaced(resize=resize)
        batches = Batches(load_data(changed).train, changed, CPU)
        images = [next(batches.train(np.arange(2), 2, seed=0, epoch=e))[0] for e in range(20)]
        whole = torch.cat(images)
        shown[resize] = float((whole == 1).all(1).float().mean())  # white, of the padding
    assert shown["pad"] > 0.2 and shown["squash"] == shown["short-side-crop"] == 0


@pytest.mark.parametrize("resize", ["squash", "short-side-crop", "pad"])
@pytest.mark.parametrize("size", [(1, 60000), (60000, 2), (3, 5)])
def test_extreme_proportions_take_no_more_memory(resize, size):
    picture = Image.new("RGB", size)
    assert squared(picture, 72, resize, (0, 0, 0)).size == (72, 72)
    if resize != "short-side-crop":
        assert framed(picture, 72, resize, (0, 0, 0)).size == (82, 82)
