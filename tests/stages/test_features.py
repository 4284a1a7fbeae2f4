"""The lay-back schedule: when samples are generated, and how their loss is added (eq. 12)."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from ltvr.clock import Clock
from ltvr.stages.features import Features, lay_back_loss


def test_lay_back_loss_is_original_plus_weighted_all():
    logits, labels = torch.randn(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    rows, ones = F.cross_entropy(logits, labels, reduction="none"), torch.ones(7)
    loss = lay_back_loss(rows, ones, 4, 2.0)
    everything = F.cross_entropy(logits, labels)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits[:4], labels[:4]) + 2 * everything)
    torch.testing.assert_close(loss.synthetic, F.cross_entropy(logits[4:], labels[4:]))
    torch.testing.assert_close(lay_back_loss(rows, ones, 7, 2.0).total, everything)


def test_a_row_of_weight_0_counts_in_no_mean():
    rows, weights = torch.tensor([1.0, 3.0, 5.0, 9.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    loss = lay_back_loss(rows, weights, 2, 0.5)
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
    begins = [e for e in range(40) if stage.plan(labels, replace(clock, epoch=e), 3) is not None]
    assert begins == ([] if first is None else list(range(first, 40)))


def test_plans_of_fixed_size_have_one_size():
    stage = Features(tiny_config(fixed_size=True, lay_back_start=0.0))
    clock = Clock(0, "features", epochs=2, steps=6)
    batches = (torch.zeros(8, dtype=torch.int64), torch.arange(8))
    assert {stage.plan(labels, clock, 10).generated for labels in batches} == {16}
