"""Heads in closed form against sums of their own, row by row in float64."""

import math

import numpy as np
import pytest
import torch

from ltvr.posthoc.closed_form import adjusted, nearest_mean, tau_normalised


@pytest.fixture
def drawn():
    random = np.random.default_rng(0)
    train, labels = random.normal(1, 2, (40, 5)), np.arange(40) % 3
    return random.normal(1, 2, (7, 5)), train + labels[:, None], labels


def expected_nearest_mean(row, train, labels, form):
    centre = [sum(column) / len(train) for column in train.T]

    def transformed(x):
        x = list(x)
        if form == "cl2n":
            x = [a - b for a, b in zip(x, centre, strict=True)]
        length = math.sqrt(sum(a * a for a in x)) if form != "un" else 1.0
        return [a / length for a in x]

    logits = []
    for k in range(3):
        own = [transformed(x) for x, label in zip(train, labels, strict=True) if label == k]
        mean = [sum(column) / len(own) for column in zip(*own, strict=True)]
        logits.append(-sum((a - b) ** 2 for a, b in zip(transformed(row), mean, strict=True)))
    return logits


@pytest.mark.parametrize("form", ["un", "l2n", "cl2n"])
def test_nearest_mean(form, drawn):
    rows, train, labels = drawn
    found = nearest_mean(*map(torch.from_numpy, drawn), 3, form)
    expected = [expected_nearest_mean(row, train, labels, form) for row in rows]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("bias", [None, [0.3, -2.0, 1.0]])
def test_tau_normalised(tau, bias, drawn):
    rows, weight = drawn[0], drawn[1][:3]
    given = None if bias is None else torch.tensor(bias, dtype=torch.float64)
    found = tau_normalised(torch.from_numpy(rows), torch.from_numpy(weight), tau, given)
    for row, logits in zip(rows, found.tolist(), strict=True):
        for k, w in enumerate(weight):
            length = math.sqrt(sum(a * a for a in w))
            value = sum(a * b for a, b in zip(row, w, strict=True)) / length**tau
            assert logits[k] == pytest.approx(value + (bias[k] if bias else 0.0))


def test_a_class_without_weights_is_no_nan():
    found = tau_normalised(torch.ones(2, 4), torch.zeros(3, 4), 2.0)
    assert found.tolist() == [[0.0] * 3] * 2


def test_adjusted():
    """By hand: z - log q, and nothing at tau = 0; a class of share 0 is at log 1e-12."""
    logits, shares = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0.75, 0.25, 0.0])
    found = adjusted(logits, shares.double(), 1.0)[0].tolist()
    assert found == pytest.approx([math.log(4 / 3), math.log(4), 12 * math.log(10)])
    found = adjusted(logits, shares.double(), 0.5)[0].tolist()
    assert found == pytest.approx([math.log(4 / 3) / 2, math.log(4) / 2, 12 * math.log(10)])
    assert adjusted(logits, shares.double(), 0.0)[0].tolist() == pytest.approx([0.0] * 3, abs=1e-11)
