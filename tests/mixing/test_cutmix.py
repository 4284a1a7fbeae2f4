"""CutMix: one box of another image, and labels that share as the pixels do."""

import numpy as np
import pytest
import torch

from ltvr.data.targets import Targets
from ltvr.mixing.cutmix import Cutmix, CutmixOptions

ROWS, SIZE = 8, 10


ONE = Targets(torch.zeros(1).long())


def mixed(seed, **options):
    images = torch.arange(ROWS).float().view(ROWS, 1, 1, 1).expand(ROWS, 3, SIZE, SIZE)
    random = np.random.default_rng(seed)
    targets = Targets(torch.arange(ROWS))  # an image's pixels are its label
    mixture = Cutmix(CutmixOptions(**options)).draw(targets, np.ones(ROWS), SIZE, random)
    return mixture.images(images), mixture.targets


def test_a_box_is_the_partners_and_the_share_is_what_is_left():
    shares = set()
    for seed in range(40):
        images, targets = mixed(seed, cutmix_probability=1.0)
        assert sorted(targets.other.tolist()) == targets.labels.tolist() == list(range(ROWS))
        for image, i, j, share in zip(images, *targets, strict=True):
            assert set(image.unique().tolist()) <= {float(i), float(j)}
            if i != j:
                taken = (image == j)[0]
                assert share.item() == pytest.approx(1 - taken.float().mean().item())
                rows, columns = taken.any(1), taken.any(0)
                assert taken.sum() == rows.sum() * columns.sum()  # a box
                assert rows.int().diff().abs().sum() <= 2 and columns.int().diff().abs().sum() <= 2
                shares.add(round(share.item(), 6))
    assert len(shares) > 15


def test_the_area_is_that_of_the_uniform_share_less_what_is_cut_off():
    """Mean area of a box of sides s, cut off at the edges, by its centre: (s - s^2/4)^2."""
    found = []
    for seed in range(2000):
        cutmix = Cutmix(CutmixOptions(cutmix_probability=1.0))
        random = np.random.default_rng(seed)
        found.append(1 - cutmix.draw(ONE, None, 64, random).targets.share)
    s = np.sqrt((np.arange(1000) + 0.5) / 1000)  # of a uniform area
    assert abs(float(np.mean(found)) - np.mean((s - s**2 / 4) ** 2)) < 0.02


def test_some_batches_are_left_as_they_came():
    whole = [mixed(seed)[1].other is None for seed in range(200)]
    assert 70 < sum(whole) < 130
    images, targets = mixed(whole.index(True))
    assert targets.share is None and (images[3] == 3).all()
