"""The lay-back schedule: when samples are generated, and how their loss is added (eq. 12)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from ltvr.afa.plan import check_plan
from ltvr.clock import Clock
from ltvr.errors import UserError
from ltvr.losses.base import Divisors
from ltvr.losses.ldam import LDAM
from ltvr.stages.base import Classes
from ltvr.stages.features import Features, lay_back_loss

CLASSES = Classes(np.array([3, 2, 1]))


def test_lay_back_loss_is_original_plus_weighted_all():
    logits, labels = torch.randn(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    rows, ones = F.cross_entropy(logits, labels, reduction="none"), torch.ones(7)
    loss = lay_back_loss(rows, ones, 4, Divisors.of(ones, 4), 2.0)
    everything = F.cross_entropy(logits, labels)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits[:4], labels[:4]) + 2 * everything)
    torch.testing.assert_close(loss.synthetic, F.cross_entropy(logits[4:], labels[4:]))
    alone = lay_back_loss(rows, ones, 7, Divisors.of(ones, 7), 2.0)
    torch.testing.assert_close(alone.total, everything)


def test_a_step_of_the_size_of_before():
    rows, ones = torch.tensor([1.0, 3.0, 5.0]), torch.ones(3)
    loss = lay_back_loss(rows, ones, 2, Divisors.of(ones, 2), 2.0, keep_size=True)
    assert loss.total.item() == pytest.approx((2 + 2 * 3) / 3)


def test_synthesis_by_the_data_set_serves_every_class_alike():
    """Batches of 32 of CIFAR-10-LT: eq. 9 has its rows of the middle, weights of all ten."""
    counts = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
    labels = np.repeat(np.arange(10), counts)
    random, clock, made = np.random.default_rng(0), Clock(0, "features", 2, 9999), {}
    batches = [torch.from_numpy(random.choice(labels, 32, replace=False)) for _ in range(500)]
    for rarity in ("batch", "data-set"):
        stage = Features(tiny_config(rarity=rarity, lay_back_start=0.0))
        plans = (
            stage.plan(batch, replace(clock, step=k), 1, Classes(counts))
            for k, batch in enumerate(batches)
        )
        made[rarity] = torch.bincount(torch.cat([plan.labels for plan in plans]), minlength=10)
    assert made["batch"].argmax() == 5 and made["batch"][9] < made["batch"][5] / 2
    # Not quite: of a class that is in few batches, no batch can make more than its B rows.
    shares = made["data-set"] / made["data-set"].sum()
    assert shares.min() > 0.05 and shares.max() < 0.15


def test_donors_of_the_head_and_of_confused_classes():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    clock = Clock(0, "features", 2, 6)
    head = Features(tiny_config(donors="head", head_share=0.4, lay_back_start=0.0))
    plan = head.plan(labels, clock, 1, Classes(np.array([5, 1, 3])))
    assert set(labels[plan.variation_index].tolist()) == {0}
    confused = Features(tiny_config(donors="confused", lay_back_start=0.0))
    assert confused.needs_confusions(0) and not head.needs_confusions(0)
    table = torch.tensor([[0.9, 0.1, 0], [0.0, 0.5, 0.5], [1.0, 0, 0]], dtype=torch.float64)
    plan = confused.plan(labels, clock, 1, Classes(np.array([5, 1, 3]), table))
    donors = labels[plan.variation_index]
    assert donors.tolist() == [{0: 1, 1: 2, 2: 0}[label] for label in plan.labels.tolist()]


def test_rows_without_mixing():
    labels, clock = torch.tensor([0, 0, 1, 2]), Clock(0, "features", 2, 6)
    mixed, own = (
        Features(tiny_config(donors=donors, lay_back_start=0.0)).plan(labels, clock, 1, CLASSES)
        for donors in ("any", "self")
    )
    check_plan(own)
    assert own.class_index.tolist() == own.variation_index.tolist() == mixed.class_index.tolist()


def test_a_row_of_weight_0_counts_in_no_mean():
    rows, weights = torch.tensor([1.0, 3.0, 5.0, 9.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    loss = lay_back_loss(rows, weights, 2, Divisors.of(weights, 2), 0.5)
    assert (loss.total, loss.synthetic) == (2 + 0.5 * 3, 5)


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"lay_back_start": 0.65}, 26),
        ({"lay_back_start": 1 / 3}, 13),
        ({"gamma": 0.0}, None),
        ({"method": "baseline"}, None),
    ],
)
def test_generation_begins_at_its_share_of_the_epochs(changes, first):
    stage = Features(tiny_config(epochs=40, **changes))
    labels, clock = torch.tensor([0, 1, 1, 2]), Clock(0, "features", epochs=40, steps=6)
    plans = [stage.plan(labels, replace(clock, epoch=e), 1, CLASSES) for e in range(40)]
    begins = [epoch for epoch, plan in enumerate(plans) if plan is not None]
    assert begins == ([] if first is None else list(range(first, 40)))


def test_plans_of_fixed_size_have_one_size():
    stage = Features(tiny_config(fixed_size=True, lay_back_start=0.0))
    clock = Clock(0, "features", epochs=2, steps=6)
    batches = (torch.tensor([0, 1, 0, 2, 0, 0, 1, 0]), torch.arange(8))
    plans = [stage.plan(labels, clock, 2, CLASSES) for labels in batches]
    assert {stage.padded(plan, 2, 4, 10).generated for plan in plans} == {16}
    assert len({plan.generated for plan in plans}) == 2


def test_the_classes_are_weighted_from_their_share_of_the_epochs_on():
    stage = Features(tiny_config(method="ldam-drw", epochs=200))
    counts = torch.tensor([50, 20, 5])
    loss, classes = stage.build_loss(counts), torch.arange(3)
    assert isinstance(loss.loss, LDAM) and not stage.parameters(torch.nn.Identity(), loss)
    seen = {}
    for epoch in (0, 159, 160, 199):
        loss.begin_epoch(Clock(0, "features", epochs=200, steps=6, epoch=epoch))
        seen[epoch] = loss.weights(classes)
    assert (seen[0] == 1).all() and (seen[159] == 1).all() and (seen[160] == seen[199]).all()
    # With so few images 1 / n_c to within a percent: 2, 5, 20 of 27.
    torch.testing.assert_close(seen[160], counts.reciprocal() * 100 / 9, rtol=0.01, atol=0)
    plain = Features(tiny_config(method="ldam", epochs=200)).build_loss(counts)
    assert isinstance(plain, LDAM)


def test_the_sampler_changes_at_its_share_of_the_epochs():
    deferred = Features(tiny_config(method="ce-drs", epochs=200)).sampler
    plain = Features(tiny_config(method="baseline", sampler="class-aware")).sampler
    labels = np.repeat(np.arange(3), (50, 20, 5))
    for epoch in (159, 160):
        order = deferred.epoch(labels, seed=0, epoch=epoch, epochs=200)
        even = np.array_equal(order, plain.epoch(labels, seed=0, epoch=epoch, epochs=200))
        assert even == (epoch == 160) and (sorted(order) == list(range(75))) == (epoch == 159)
        shares = deferred.shares(np.array([50, 20, 5]), epoch, 200)
        np.testing.assert_allclose(shares, [1 / 3] * 3 if even else np.array([50, 20, 5]) / 75)


@pytest.mark.parametrize(
    ("method", "name"), [("ce-drw", "weighting"), ("ce-drs", "deferred_sampler")]
)
def test_what_would_begin_after_the_last_epoch_is_refused(method, name):
    with pytest.raises(UserError, match=f"{name}_start = 0.8: .* epoch 2 of 2, and so never"):
        tiny_config(method=method, epochs=2)
    tiny_config(method=method, epochs=3)


def test_a_warm_up_that_never_ends_is_refused():
    with pytest.raises(UserError, match="warmup_epochs = 4: in 3 epochs the .* never gets to --lr"):
        tiny_config(epochs=3, warmup_epochs=4)
    tiny_config(epochs=3, warmup_epochs=3)


@pytest.mark.parametrize("normalise", ["weights", "batch"])
def test_what_a_class_is_of_the_loss(normalise):
    """Against the gradient of the loss by the losses of each class's rows."""
    stage = Features(tiny_config(loss_weight=2.0))
    real, generated, by_class = np.array([90, 10]), np.array([0, 50]), np.array([0.2, 1.8])
    labels = torch.tensor([0] * 90 + [1] * 10 + [1] * 50)
    own = torch.from_numpy(by_class)[labels]
    values = torch.ones(150, dtype=torch.float64, requires_grad=True)
    rows, weights = (values, own) if normalise == "weights" else (values * own, torch.ones(150))
    total = stage.total(rows, weights, 100, Divisors.of(weights, 100)).total
    (slopes,) = torch.autograd.grad(total, values)
    expected = torch.zeros(2, dtype=torch.float64).index_add_(0, labels, slopes)
    of = None if normalise == "weights" else (100.0, 150.0)
    found = stage.class_shares(real * by_class, generated * by_class, of)
    np.testing.assert_allclose(found, (expected / expected.sum()).numpy())
