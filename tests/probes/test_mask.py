"""What masks are like, by formulas of our own."""

import math

import numpy as np
import pytest
import torch

from ltvr.probes.mask import fixed_pattern, parts_of_energy, statistics_of


def test_a_flat_mask_and_a_one_hot_one():
    masks = torch.zeros(2, 3, 2, 2)
    masks[0] = 0.25
    masks[1, :, 1, 0] = 1.0  # in every channel the same position
    found = {name: values.tolist() for name, values in statistics_of(masks).items()}
    assert found["mean"] == [0.25, 0.25]
    assert found["spread over positions"] == pytest.approx([0, math.sqrt(3)])
    assert found["entropy over positions"] == pytest.approx([1, 0])
    assert found["spread over channels"] == pytest.approx([0, 0])
    assert found["entropy over channels"] == pytest.approx([1, 1])


def test_a_mask_of_one_channel_and_one_position():
    masks = torch.zeros(1, 2, 1, 2)
    masks[0, 1] = 0.5
    found = {name: values.item() for name, values in statistics_of(masks).items()}
    assert found["entropy over channels"] == pytest.approx(0)
    assert found["spread over channels"] == pytest.approx(1)  # 0 and 1/2, of mean 1/4
    assert found["entropy over positions"] == pytest.approx(1)
    (one,) = statistics_of(torch.full((1, 4, 1, 1), 0.7))["entropy over positions"].tolist()
    assert one == 1


def test_energy_of_the_parts():
    x_class = torch.tensor([3.0, 0.0, 1.0, 1.0]).view(2, 2, 1, 1)
    x_var = torch.tensor([0.0, 4.0, 2.0, 2.0]).view(2, 2, 1, 1)
    found = parts_of_energy(x_class, x_var)
    assert found["|X_class|^2 / |V|^2"].tolist() == pytest.approx([9 / 25, 2 / 18])
    assert found["|X_var|^2 / |V|^2"].tolist() == pytest.approx([16 / 25, 8 / 18])
    assert found["cosine of X_class and X_var"].tolist() == pytest.approx([0, 1])


def test_how_much_is_one_fixed_pattern():
    random = np.random.default_rng(0)
    pattern = np.array([0.1, 0.9, 0.5])
    m = pattern + random.normal(scale=0.2, size=(6, 4, 3))  # [n, D, N]
    p = m.mean((0, 1))
    expected = [1 - ((x - p) ** 2).sum() / ((x - x.mean()) ** 2).sum() for x in m]
    found = fixed_pattern(torch.tensor((m**2).sum((1, 2))), torch.tensor(m.mean(1)), 4)
    assert found.tolist() == pytest.approx(expected)
    same = torch.tensor(pattern).expand(5, 3)
    assert fixed_pattern(4 * (same**2).sum(1), same, 4).tolist() == pytest.approx([1] * 5)
