"""CMO: boxes of partners that are drawn by the weights of their classes, in some of the epochs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config
from hypothesis import given
from hypothesis import strategies as st

from ltvr.clock import Clock
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.engine.cut import Cut
from ltvr.engine.whole import Whole
from ltvr.errors import UserError
from ltvr.losses.base import Outputs
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.mixing.base import with_partners
from ltvr.mixing.cmo import CMO, CMOOptions
from ltvr.stages.base import Classes
from ltvr.stages.features import Features
from ltvr.weightings.build import Weighted

ROWS = 6
LABELS = np.repeat([0, 1, 3], [600, 90, 6])


def mixed(seed, **options):
    """A batch of images whose pixels are their label, 0 to 5, with partners of 6 to 11."""
    images = torch.arange(2 * ROWS).float().view(-1, 1, 1, 1).expand(-1, 3, 10, 10)
    targets, random = Targets(torch.arange(2 * ROWS)), np.random.default_rng(seed)
    mixture = CMO(CMOOptions(**options)).draw(targets, np.ones(2 * ROWS), 10, random)
    return mixture.images(images), mixture.targets


def test_a_box_of_the_partner_is_pasted_and_shares_the_label():
    shares = set()
    for seed in range(40):
        images, targets = mixed(seed, cmo_probability=1.0)
        assert targets.labels.tolist() == list(range(ROWS))
        assert targets.other.tolist() == list(range(ROWS, 2 * ROWS))
        for image, i, j, share in zip(images, *targets, strict=True):
            taken = image == j
            assert (taken | (image == i)).all() and len({int(c.sum()) for c in taken}) == 1
            assert share.item() == pytest.approx(1 - taken.float().mean().item())
            rows, columns = taken[0].any(1), taken[0].any(0)
            assert taken[0].sum() == rows.sum() * columns.sum()
        shares.add(round(targets.share[0].item(), 6))
    assert len(shares) > 10


def test_half_of_the_batches_are_left_without_their_partners():
    whole = [mixed(seed)[1].other is None for seed in range(200)]
    assert 70 < sum(whole) < 130
    images, targets = mixed(whole.index(True))
    assert targets.labels.tolist() == images[:, 0, 0, 0].tolist() == list(range(ROWS))


def test_with_class_weights_a_mean_is_taken_under_each_label():
    """In their code: lam * loss(output, target) + (1 - lam) * loss(output, target2)."""
    torch.manual_seed(0)
    logits, u = torch.randn(8, 4), torch.tensor([0.1, 0.4, 1.5, 2.0])
    first, other = torch.tensor([0, 0, 0, 1, 0, 1, 2, 0]), torch.tensor([3, 2, 3, 1, 3, 0, 2, 3])
    loss = Weighted(CrossEntropy(NoOptions(), torch.ones(4)), u, 0.0, "weights")
    loss.begin_epoch(Clock(seed=0, stage="features", epoch=0, epochs=1, steps=1))
    targets = Targets(first, other, torch.full((8,), 0.7))
    loss.balance_labels(targets, 8)
    found = 0.0
    for part in (slice(0, 5), slice(5, 8)):  # micro-batches
        of_part = Targets(first[part], other[part], targets.share[part])
        values, weights = loss(Outputs(logits[part], logits[part]), of_part)
        found += (values * weights).sum() / loss.row_weights(targets).sum()
    theirs = [F.cross_entropy(logits, labels, weight=u) for labels in (first, other)]
    assert found.item() == pytest.approx((0.7 * theirs[0] + 0.3 * theirs[1]).item(), rel=1e-6)


@pytest.mark.parametrize("mixing", ["mixup", "remix", "cmo"])
def test_the_labels_of_a_batch_s_own_partners_keep_their_weights(mixing):
    """Remix's second labels are of larger classes than its first; CMO's are a mean of their own."""
    config = tiny_config(epochs=8, method="baseline", mixing=mixing, weighting="effective-number")
    stage, counts = Features(config), np.bincount(LABELS)[[0, 1, 3]]
    loss = stage.build_loss(torch.from_numpy(counts))
    clock = Clock(seed=0, stage="features", epoch=4, epochs=8, steps=20)
    loss.begin_epoch(clock)
    factors = []
    for step in range(20):
        random, now = np.random.default_rng(step), replace(clock, step=step)
        labels = torch.from_numpy(random.choice(3, 64 * (1 + (mixing == "cmo")), p=counts / 696))
        cut, cpu = Cut(64, 1, 1), torch.device("cpu")
        Whole.decide(stage, stage.mixing, loss, labels, now, cut, Classes(counts), 16, cpu)
        factors.append(round(loss.second.item(), 3))
    assert (max(factors) > 1) == (mixing == "cmo")


def test_the_first_and_the_last_epochs_are_plain():
    """In their code: start_data_aug < epoch < epochs - end_data_aug, with 3 and 3."""
    cmo = CMO(CMOOptions())
    for epochs in (1, 7, 8, 200):
        expected = [epoch for epoch in range(epochs) if 3 < epoch < epochs - 3]
        assert list(cmo.epochs(epochs)) == expected
    none = r"epochs = 7: mixing = cmo mixes in none of them; .* lower --cmo-plain-first"
    with pytest.raises(UserError, match=none):
        tiny_config(method="cmo", epochs=7)
    tiny_config(method="cmo", epochs=8)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_partners_are_drawn_by_the_weights_of_their_images(exponent):
    """Counting every image: a multinomial by n_c^-r of its class."""
    partners = CMO(CMOOptions(cmo_exponent=exponent)).partners
    counts, epochs = np.bincount(LABELS), 60
    order = [partners.epoch(LABELS, seed=s, epoch=0, epochs=1) for s in range(epochs)]
    came = np.bincount(np.concatenate(order), minlength=len(LABELS))
    weight = counts[LABELS].astype(np.float64) ** -exponent
    expected = epochs * len(LABELS) * weight / weight.sum()
    assert (abs(came - expected) < 5 * np.sqrt(expected) + 3).all()
    of_classes = np.bincount(LABELS, weights=expected) / expected.sum()
    np.testing.assert_allclose(partners.shares(counts, 0, 1), of_classes)


@given(batches=st.integers(0, 5), size=st.integers(1, 7))
def test_partners_follow_every_batch(batches, size):
    order = np.arange(batches * size)
    both = with_partners(order, order + 1000, size)
    assert len(both) == 2 * len(order)
    for k in range(batches):
        batch = both[2 * size * k : 2 * size * (k + 1)]
        own = order[k * size : (k + 1) * size]
        assert batch.tolist() == [*own, *(own + 1000)]
