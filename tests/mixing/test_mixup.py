"""Mixup: images and targets are mixed by the same share, which follows Beta(a, a)."""

import numpy as np
import torch

from ltvr.data.targets import Targets
from ltvr.mixing.mixup import Mixup, MixupOptions


def mixed(alpha=1.0, seed=0, rows=8):
    images = torch.arange(rows, dtype=torch.float32).view(rows, 1, 1, 1).expand(rows, 3, 2, 2)
    labels = torch.arange(rows)  # an image's pixels are its label
    random = np.random.default_rng(seed)
    mixing = Mixup(MixupOptions(mixup_alpha=alpha))
    mixture = mixing.draw(Targets(labels), np.ones(rows), 2, random)
    return mixture.images(images), mixture.targets


def test_pixels_are_mixed_as_the_labels_are():
    images, targets = mixed()
    share = targets.share[0]
    assert (targets.share == share).all() and 0 < share < 1
    assert targets.labels.tolist() == list(range(8))
    assert sorted(targets.other.tolist()) == list(range(8))
    expected = share * targets.labels + (1 - share) * targets.other
    torch.testing.assert_close(images, expected.view(8, 1, 1, 1).expand(8, 3, 2, 2))
    again, other = mixed(), mixed(seed=1)
    assert torch.equal(images, again[0]) and not torch.equal(images, other[0])


def test_shares_follow_the_beta_distribution():
    for alpha, variance in ((1.0, 1 / 12), (0.2, 0.25 / 1.4)):  # 1 / (4 (2 a + 1))
        shares = np.array([mixed(alpha, seed, rows=1)[1].share[0] for seed in range(2000)])
        assert abs(shares.mean() - 0.5) < 0.03
        assert abs(shares.var() / variance - 1) < 0.1
