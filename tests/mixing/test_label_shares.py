"""The labels that mixing is expected to give, against those of many batches that are mixed."""

import numpy as np
import pytest
import torch

from ltvr.data.targets import Targets
from ltvr.mixing.cmo import CMO, CMOOptions
from ltvr.mixing.cutmix import Cutmix, CutmixOptions, draw_box, expected_share
from ltvr.mixing.mixup import Mixup, MixupOptions
from ltvr.mixing.remix import Remix, RemixOptions

COUNTS = np.array([450, 150, 151, 50, 15])
SIZE, BATCH, BATCHES = 12, 64, 1000


@pytest.mark.parametrize(
    "mixing",
    [
        Mixup(MixupOptions()),
        Remix(RemixOptions()),
        Remix(RemixOptions(remix_alpha=0.4, remix_k=2.0, remix_t=0.8)),
        Cutmix(CutmixOptions(cutmix_alpha=0.3)),
        CMO(CMOOptions()),
        CMO(CMOOptions(cmo_alpha=0.3)),
    ],
    ids=lambda mixing: type(mixing).__name__,
)
def test_the_shares_of_many_batches(mixing):
    random, own = np.random.default_rng(0), COUNTS / COUNTS.sum()
    partners = own if mixing.partners is None else mixing.partners.shares(COUNTS, 0, 1)
    found = np.zeros((5, 5))  # by the first label, how much of the rows is of each
    for _ in range(BATCHES):
        labels = random.choice(5, BATCH, p=own)
        if mixing.partners is not None:
            labels = np.concatenate([labels, random.choice(5, BATCH, p=partners)])
        targets = Targets(torch.from_numpy(labels))
        first, other, share = mixing.draw(targets, COUNTS, SIZE, random).targets
        if other is None:
            other, share = first, torch.ones(len(first))
        np.add.at(found, (first, first), share.double())
        np.add.at(found, (first, other), 1 - share.double())
    first = mixing.first_labels(own, partners, COUNTS)
    np.testing.assert_allclose(first, found.sum(1) / found.sum(), atol=0.008)
    expected = mixing.label_shares(first, partners, COUNTS, SIZE)
    np.testing.assert_allclose(expected, found.sum(0) / found.sum(), atol=0.008)
    made = np.arange(1.0, 6.0)  # rows generated of each class, of the samples that have it first
    expected = mixing.label_shares(made, partners, COUNTS, SIZE)
    np.testing.assert_allclose(expected, made / found.sum(1) @ found, atol=0.3)  # of 15


def test_remix_of_two_classes_by_hand():
    """Of 0.18 of the rows, which are of both, the larger keeps E[l; l >= 1/2] = 3/8."""
    own, counts = np.array([0.9, 0.1]), np.array([90, 10])
    remix = Remix(RemixOptions())
    first = remix.first_labels(own, own, counts)
    np.testing.assert_allclose(first, [0.9 - 0.045, 0.1 + 0.045])  # half of its 0.09 gives way
    shares = remix.label_shares(first, own, counts, SIZE)
    np.testing.assert_allclose(shares, [0.81 + 0.18 * 0.375, 0.01 + 0.18 * 0.625])


@pytest.mark.parametrize(("size", "alpha"), [(7, 1.0), (12, 0.3)])
def test_the_mean_of_the_share_outside_a_box(size, alpha):
    random = np.random.default_rng(0)
    shares = [draw_box(size, alpha, random)[1] for _ in range(20_000)]
    assert expected_share(size, alpha) == pytest.approx(np.mean(shares), abs=0.008)
