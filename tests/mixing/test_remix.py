"""Remix: images as in mixup, labels by its rule for every pair of classes."""

import numpy as np
import pytest
import torch

from ltvr.data.targets import Targets
from ltvr.mixing.mixup import Mixup, MixupOptions
from ltvr.mixing.remix import Remix, RemixOptions

COUNTS = np.array([90, 30, 31, 10])  # 90 is 3 times 30, but not 3 times 31


def both(seed, **options):
    images = torch.randn(64, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    targets = Targets(torch.arange(64) % 4)
    mixings = (Mixup(MixupOptions()), Remix(RemixOptions(**options)))
    drawn = [m.draw(targets, COUNTS, 2, np.random.default_rng(seed)) for m in mixings]
    return [(each.images(images), each.targets) for each in drawn]


@pytest.mark.parametrize("options", [{}, {"remix_k": 2.0, "remix_t": 0.8}])
def test_the_smaller_class_takes_the_label_where_the_larger_has_little_share(options):
    k, t = options.get("remix_k", 3.0), options.get("remix_t", 0.5)
    seen = set()
    for seed in range(8):
        (plain, mixup), (images, remix) = both(seed, **options)
        assert torch.equal(images, plain)
        share, rows = float(mixup.share[0]), zip(*(each.tolist() for each in remix), strict=True)
        for i, j, row in zip(mixup.labels.tolist(), mixup.other.tolist(), rows, strict=True):
            larger = COUNTS[i] / COUNTS[j]
            if larger >= k and share < t:
                expected = (j, i, 1.0)  # in the synthesis plan it is a sample of its only label
            elif larger <= 1 / k and 1 - share < t:
                expected = (i, j, 1.0)
            else:
                expected = (i, j, share)
            assert row == expected, (i, j, share)
            seen.add((expected[0] == i, expected[2] == 1))
    assert seen == {(False, True), (True, True), (True, False)}


def test_without_a_share_to_give_way_below_it_is_mixup():
    for seed in range(4):
        (_, mixup), (_, remix) = both(seed, remix_t=0.0)
        assert torch.equal(mixup.share, remix.share)
