"""Losses that know how many images a class has, against sums over the classes in NumPy."""

import math

import numpy as np
import pytest
import torch
from conftest import tiny_config, weighted_mean

from ltvr.classifiers.cosine import Cosine, CosineOptions
from ltvr.clock import Clock
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.errors import UserError
from ltvr.losses.balanced_softmax import BalancedSoftmax
from ltvr.losses.base import Outputs
from ltvr.losses.cdt import CDT, CDTOptions
from ltvr.losses.focal_ldam import FocalLDAM, FocalLDAMOptions
from ltvr.losses.focal_sigmoid import FocalSigmoid, FocalSigmoidOptions
from ltvr.losses.label_aware_smoothing import LabelAwareSmoothing, LabelAwareSmoothingOptions
from ltvr.losses.ldam import LDAM, LDAMOptions
from ltvr.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions
from ltvr.weightings.build import Weighted

N = np.array([50, 20, 5])
COUNTS = torch.from_numpy(N)
Y = [0, 1, 2, 2, 1, 0]
Z = np.random.default_rng(0).normal(size=(6, 3)) * 3


def rows(loss, z=Z):
    z = torch.from_numpy(np.asarray(z))
    return loss.rows(Outputs(z, z), torch.tensor(Y)).numpy()


def test_balanced_softmax_weighs_each_class_of_the_sum_by_its_images():
    # -log(n_y e^z_y / sum_c n_c e^z_c), eq. 4 as it stands
    e = N * np.exp(Z)
    loss = BalancedSoftmax(NoOptions(), COUNTS)
    np.testing.assert_allclose(rows(loss), -np.log(e[range(6), Y] / e.sum(1)), rtol=1e-6)
    by_hand = BalancedSoftmax(NoOptions(), COUNTS)
    found = rows(by_hand, np.zeros((6, 3)))
    np.testing.assert_allclose(found[:3], -np.log([50 / 75, 20 / 75, 5 / 75]), rtol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment_is_the_pairwise_margin_of_the_paper(tau):
    # log(1 + sum_{c != y} (pi_c / pi_y)^tau e^(z_c - z_y)), their eq. 10 in its second form
    loss = LogitAdjustment(LogitAdjustmentOptions(logit_adjustment_tau=tau), COUNTS)
    expected = [
        math.log1p(sum((N[c] / N[y]) ** tau * math.exp(z[c] - z[y]) for c in range(3) if c != y))
        for z, y in zip(Z, Y, strict=True)
    ]
    np.testing.assert_allclose(rows(loss), expected, rtol=1e-6)


def test_a_class_of_almost_no_share_has_a_finite_adjustment():
    loss = LogitAdjustment(LogitAdjustmentOptions(logit_adjustment_tau=30.0), COUNTS)
    assert loss.adjustment[2].item() == pytest.approx(math.log(1e-12))


def test_ldam_takes_the_margin_off_the_cosine_of_the_label():
    torch.manual_seed(0)
    cosine = Cosine(CosineOptions(cosine_scale=30.0), 4, 3).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    loss = LDAM(LDAMOptions(), COUNTS)
    found = loss.rows(Outputs(cosine(x), x), torch.tensor(Y)).detach().numpy()
    w = cosine.weight.detach().numpy()
    cos = x.numpy() @ w.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    raw = N**-0.25
    for row, y in enumerate(Y):
        margin = raw[y] * 0.5 / raw.max()
        right = math.exp(30 * (cos[row, y] - margin))
        wrong = sum(math.exp(30 * cos[row, c]) for c in range(3) if c != y)
        assert found[row] == pytest.approx(-math.log(right / (right + wrong)), rel=1e-5)
    by_hand = 15 * torch.tensor([0.1**0.25, 0.25**0.25, 1.0])
    torch.testing.assert_close(loss.margins, by_hand)


def test_ldam_is_refused_without_cosines_of_its_scale():
    with pytest.raises(UserError, match="say --classifier cosine --cosine-scale 30"):
        tiny_config(method="baseline", loss="ldam")
    with pytest.raises(UserError, match="ldam_scale = 30: expected cosine_scale = 16"):
        tiny_config(method="cosine", crt_loss="ldam")
    with pytest.raises(UserError, match="cosine_heads = 2: with loss = ldam expected 1"):
        tiny_config(method="ldam", cosine_heads=2)
    for stage in ("lws", "mislas"):
        with pytest.raises(UserError, match=f"{stage}_loss = ldam: expected a loss of any logits"):
            tiny_config(method="ldam", stages=("features", stage), **{f"{stage}_loss": "ldam"})
    tiny_config(method="cosine", crt_loss="ldam", ldam_scale=16)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_sigmoid_is_the_sum_over_one_against_the_rest(gamma):
    loss = FocalSigmoid(FocalSigmoidOptions(focal_sigmoid_gamma=gamma), COUNTS)
    p, t = 1 / (1 + np.exp(-Z) * 2), np.eye(3)[Y]  # sigmoid(z - log(C - 1))
    entropy = -t * np.log(p) - (1 - t) * np.log(1 - p)
    np.testing.assert_allclose(rows(loss), (abs(t - p) ** gamma * entropy).sum(1), rtol=1e-10)
    z = torch.from_numpy(Z).clone().requires_grad_()
    labels = torch.tensor(Y)
    assert torch.autograd.gradcheck(lambda z: loss.rows(Outputs(z, z), labels), z)


def test_focal_sigmoid_begins_at_equal_shares_and_stays_finite():
    loss = FocalSigmoid(FocalSigmoidOptions(focal_sigmoid_gamma=0.0), torch.ones(10))
    labels, z = torch.tensor([3]), torch.zeros(1, 10, dtype=torch.float64)
    expected = -math.log(0.1) - 9 * math.log(0.9)
    assert loss.rows(Outputs(z, z), labels).item() == pytest.approx(expected)
    far = torch.tensor([[500.0, -500.0, 500.0]], requires_grad=True)
    loss = FocalSigmoid(FocalSigmoidOptions(focal_sigmoid_gamma=0.5), COUNTS)
    loss.rows(Outputs(far, far), torch.tensor([0])).sum().backward()
    assert far.grad.isfinite().all()


def test_focal_sigmoid_without_its_prior_begins_at_one_half():
    options = FocalSigmoidOptions(focal_sigmoid_prior=False)
    z, labels = torch.zeros(1, 10, dtype=torch.float64), torch.tensor([3])
    loss = FocalSigmoid(options, torch.ones(10)).rows(Outputs(z, z), labels)
    assert loss.item() == pytest.approx(10 * 0.25 * math.log(2))  # a quarter is |t - p|^2


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_ldam_has_the_weight_of_the_class_in_its_factor(gamma):
    """FocalLoss of LDAM-DRW: l = u_y CE, mean over the batch of (1 - e^-l)^gamma l."""
    u = np.array([0.25, 0.75, 2.0])
    loss = FocalLDAM(FocalLDAMOptions(focal_ldam_gamma=gamma), COUNTS)
    entropy = -np.log((np.exp(Z) / np.exp(Z).sum(1, keepdims=True))[range(6), Y])
    plain = (1 - np.exp(-entropy)) ** gamma * entropy
    np.testing.assert_allclose(rows(loss), plain, rtol=1e-10)
    weighted = Weighted(loss, torch.from_numpy(u), 0.5, "batch")
    z, targets = torch.from_numpy(Z), Targets(torch.tensor(Y))
    ll = u[Y] * entropy
    for epoch, expected in ((0, plain), (1, (1 - np.exp(-ll)) ** gamma * ll)):
        weighted.begin_epoch(Clock(0, "features", epochs=2, steps=1, epoch=epoch))
        mean = weighted_mean(*weighted(Outputs(z, z), targets))
        assert mean.item() == pytest.approx(expected.mean(), rel=1e-6)
    sure = torch.tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    loss.rows(Outputs(sure, sure), torch.tensor([0])).sum().backward()
    assert sure.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1.0])
def test_cdt_divides_the_logit_of_a_class_by_its_temperature(gamma):
    a = [(max(N) / n) ** gamma for n in N]
    expected = [
        math.log(sum(math.exp(z[c] / a[c]) for c in range(3))) - z[y] / a[y]
        for z, y in zip(Z, Y, strict=True)
    ]
    np.testing.assert_allclose(rows(CDT(CDTOptions(cdt_gamma=gamma), COUNTS)), expected, rtol=1e-6)


def test_label_aware_smoothing_by_hand():
    options = LabelAwareSmoothingOptions(smoothing_head=0.4, smoothing_tail=0.1)
    eps = [0.4, 0.1 + 0.3 * math.sin(math.pi / 6), 0.1]  # (20 - 5) / (50 - 5) of a quarter turn
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    expected = []
    for row, y in enumerate(Y):
        target = [eps[y] / 3 + (1 - eps[y]) * (c == y) for c in range(3)]
        expected.append(-sum(t * math.log(q) for t, q in zip(target, p[row], strict=True)))
    np.testing.assert_allclose(rows(LabelAwareSmoothing(options, COUNTS)), expected, rtol=1e-6)
    even = LabelAwareSmoothing(options, torch.tensor([7, 7, 7]))
    torch.testing.assert_close(even.smoothing, torch.full((3,), 0.1))


def test_what_follows_from_the_counts_is_in_no_checkpoint():
    for loss in (
        BalancedSoftmax(NoOptions(), COUNTS),
        LogitAdjustment(LogitAdjustmentOptions(), COUNTS),
        LDAM(LDAMOptions(), COUNTS),
        LabelAwareSmoothing(LabelAwareSmoothingOptions(), COUNTS),
        CDT(CDTOptions(), COUNTS),
    ):
        assert not loss.state_dict() and all(b.dtype == torch.float32 for b in loss.buffers())
