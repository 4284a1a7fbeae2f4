"""The losses against formulas worked out in NumPy, and what every loss has from its base."""

import numpy as np
import pytest
import torch
from conftest import weighted_mean

from ltvr.afa.plan import IGNORED
from ltvr.clock import Clock
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.losses import LOSSES
from ltvr.losses.base import Outputs
from ltvr.losses.build import Deferred
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.losses.focal import Focal, FocalOptions

COUNTS = torch.tensor([50, 20, 5])


def logits(rows=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=g, dtype=torch.float64) * 3


def rows(loss, z, labels):
    return loss.rows(Outputs(z, z), torch.tensor(labels))


def probabilities(z):
    e = np.exp(z.numpy() - z.numpy().max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_cross_entropy_and_focal_by_hand():
    z, labels = logits(), [0, 1, 2, 2, 1, 0]
    p = probabilities(z)[range(6), labels]
    np.testing.assert_allclose(rows(CrossEntropy(NoOptions(), COUNTS), z, labels), -np.log(p))
    for gamma in (0.0, 0.5, 2.0):
        focal = Focal(FocalOptions(focal_gamma=gamma), COUNTS)
        expected = (1 - p) ** gamma * -np.log(p)
        np.testing.assert_allclose(rows(focal, z, labels), expected, rtol=1e-10)


def test_the_gradient_of_focal_loss_and_without_that_of_its_factor():
    z, labels = logits(), torch.tensor([0, 1, 2, 2, 1, 0])

    def total(focal):
        return lambda z: focal.rows(Outputs(z, z), labels).sum()

    whole = Focal(FocalOptions(), COUNTS)
    assert torch.autograd.gradcheck(total(whole), z.clone().requires_grad_())
    p = torch.softmax(z, 1)
    p_y = p[range(6), labels]
    of_cross_entropy = p - torch.nn.functional.one_hot(labels, 3)
    z = z.clone().requires_grad_()
    total(Focal(FocalOptions(focal_detach=True), COUNTS))(z).backward()
    torch.testing.assert_close(z.grad, (1 - p_y).pow(2)[:, None] * of_cross_entropy)


def test_focal_loss_of_a_sure_row_stays_finite():
    z = torch.tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    Focal(FocalOptions(focal_gamma=0.5), COUNTS).rows(Outputs(z, z), torch.tensor([0])).backward()
    assert z.grad.isfinite().all()


class Weighted(CrossEntropy):
    """Cross-entropy with a weight of each class."""

    def weights(self, labels):
        return torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)[labels]


def test_weighted_means_are_pytorchs():
    z, labels = logits(), torch.tensor([0, 1, 2, 2, 1, 0])
    mean = weighted_mean(*Weighted(NoOptions(), COUNTS)(Outputs(z, z), Targets(labels)))
    weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(z, labels, weight=weight)
    torch.testing.assert_close(mean, expected)
    assert weighted_mean(torch.ones(3), torch.zeros(3)) == 0


@pytest.mark.parametrize("kind", [CrossEntropy, Weighted])
def test_two_labels_a_row_are_the_mean_of_both_losses(kind):
    z, first, second = logits(), torch.tensor([0, 1, 2, 2, 1, 0]), torch.tensor([1, 1, 0, 2, 0, 2])
    loss, share = kind(NoOptions(), COUNTS), torch.full((6,), 0.3, dtype=torch.float64)
    values, weights = loss(Outputs(z, z), Targets(first, second, share))
    (a, u), (b, v) = (loss(Outputs(z, z), Targets(labels)) for labels in (first, second))
    torch.testing.assert_close(values * weights, 0.3 * a * u + 0.7 * b * v)
    torch.testing.assert_close(weights, 0.3 * u + 0.7 * v, check_dtype=False)


def test_ignored_rows_have_no_loss_no_weight_and_no_gradient():
    labels = torch.tensor([0, IGNORED, 2])
    for name in LOSSES.names():
        kind = LOSSES.get(name)
        z = logits(3).requires_grad_()
        loss = kind(kind.options_type(), COUNTS)
        for targets in (Targets(labels), Targets(labels, labels, torch.full((3,), 0.5))):
            values, weights = loss(Outputs(z, z), targets)
            assert values[1] == weights[1] == 0 and (values[::2] > 0).all()
            (gradient,) = torch.autograd.grad(values.sum(), z)
            assert not gradient[1].any() and gradient[::2].any()


def test_a_loss_that_gives_its_mean_is_refused():
    class Mean(CrossEntropy):
        def rows(self, outputs, labels):
            return super().rows(outputs, labels).mean()

    with pytest.raises(TypeError, match="Mean.rows gave shape .* expected one value a row"):
        Mean(NoOptions(), COUNTS)(Outputs(logits(), logits()), Targets(torch.zeros(6).long()))


def test_a_mixed_row_whose_labels_weigh_nothing_counts_nothing():
    class Nothing(CrossEntropy):
        def weights(self, labels):
            return torch.zeros(len(labels))

    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    targets = Targets(labels, labels.flip(0), torch.full((6,), 0.5))
    values, weights = Nothing(NoOptions(), COUNTS)(Outputs(logits(), logits()), targets)
    assert not values.any() and not weights.any()


def test_a_loss_that_gives_way_keeps_what_a_mean_of_either_divides_by():
    first, then = CrossEntropy(NoOptions(), COUNTS), CrossEntropy(NoOptions(), COUNTS)
    then.normalise = "batch"
    loss = Deferred(first, then, 0.5, COUNTS)
    for epoch, expected in ((0, "weights"), (1, "batch"), (0, "weights")):
        loss.begin_epoch(Clock(0, "features", 2, 1, epoch=epoch))
        assert loss.normalise == expected
