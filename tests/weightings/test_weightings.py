"""Weights of the classes: by effective number, in either mean, from their epoch on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import weighted_mean

from ltvr.clock import Clock
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.losses.base import Outputs
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.losses.focal import Focal, FocalOptions
from ltvr.weightings import WEIGHTINGS
from ltvr.weightings.build import Weighted
from ltvr.weightings.effective_number import EffectiveNumber, EffectiveNumberOptions

COUNTS = torch.tensor([50, 20, 5])
U = torch.tensor([0.25, 0.75, 2.0])
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
Z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OUTPUTS = Outputs(Z, Z)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_effective_numbers_are_geometric_sums(beta):
    # (1 - beta^n) / (1 - beta) = 1 + beta + ... + beta^(n-1)
    sums = np.array([sum(beta**i for i in range(n)) for n in (50, 20, 5)])
    found = EffectiveNumber(EffectiveNumberOptions(effective_number_beta=beta)).weights(COUNTS)
    np.testing.assert_allclose(found, 3 / sums / (1 / sums).sum(), rtol=1e-9)


def test_towards_1_they_are_the_inverse_of_the_counts():
    options = EffectiveNumberOptions(effective_number_beta=1 - 1e-15)
    found = EffectiveNumber(options).weights(COUNTS)
    np.testing.assert_allclose(found, np.array([2, 5, 20]) / 9, rtol=1e-9)  # 3 / 27 of each


def test_every_weighting_has_the_mean_1():
    for name in WEIGHTINGS.names():
        kind = WEIGHTINGS.get(name)
        weights = kind(kind.options_type()).weights(COUNTS)
        assert weights.dtype == torch.float64 and weights.mean().item() == pytest.approx(1)
        assert (weights.diff() > 0).all()


def weighted(normalise="weights", start=0.0, loss=None):
    loss = Weighted(loss or CrossEntropy(NoOptions(), COUNTS), U, start, normalise)
    loss.begin_epoch(Clock(0, "features", epochs=10, steps=1, epoch=5))
    return loss


def test_the_mean_divides_by_the_weights_or_by_the_images():
    targets = Targets(LABELS)
    by_weights = weighted_mean(*weighted("weights")(OUTPUTS, targets))
    torch.testing.assert_close(by_weights, F.cross_entropy(Z, LABELS, weight=U.double()))
    by_batch = weighted_mean(*weighted("batch")(OUTPUTS, targets))
    total = F.cross_entropy(Z, LABELS, weight=U.double(), reduction="sum")
    torch.testing.assert_close(by_batch, total / 6)


def test_two_labels_a_row_weigh_by_their_shares_in_either_mean():
    other, share = LABELS.roll(1), torch.full((6,), 0.25)
    a, b = (F.cross_entropy(Z, y, reduction="none") for y in (LABELS, other))
    u, v = U[LABELS], U[other]
    total = (0.25 * u * a + 0.75 * v * b).sum()
    for normalise, divisor in (("weights", (0.25 * u + 0.75 * v).sum()), ("batch", 6)):
        values, weights = weighted(normalise)(OUTPUTS, Targets(LABELS, other, share))
        torch.testing.assert_close(weighted_mean(values, weights), total / divisor)


def test_they_count_from_their_epoch_on_over_the_weights_of_the_loss():
    class Own(Focal):
        def weights(self, labels):
            return labels + 1.0

        def offsets(self, classes):
            return classes * 2.0

    loss = weighted(start=0.8, loss=Own(FocalOptions(), COUNTS))
    classes = torch.arange(3)
    clocks = [Clock(0, "features", epochs=200, steps=1, epoch=e) for e in (159, 160)]
    for clock, expected in zip(clocks, ([1.0, 2.0, 3.0], [0.25, 1.5, 6.0]), strict=True):
        loss.begin_epoch(clock)
        assert loss.weights(classes).tolist() == expected
    assert loss.offsets(classes).tolist() == [0, 2, 4]
    torch.testing.assert_close(loss.rows(OUTPUTS, LABELS), loss.loss.rows(OUTPUTS, LABELS))
    assert not loss.state_dict()
