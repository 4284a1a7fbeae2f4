"""Distances from means, by hand."""

import math

import numpy as np
import pytest
import torch

from ltvr.probes.distances import distances, to_means
from ltvr.probes.lines import Subsets
from ltvr.probes.rows import Generated, Rows

REAL = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [10.0, 0.0], [10.0, 6.0], [0.0, 9.0]])
LABELS = np.array([0, 0, 0, 1, 1, 2])


def test_a_row_is_left_out_of_the_mean_of_its_class():
    found = to_means(REAL, LABELS, REAL, LABELS, np.arange(6))
    # Class 0 without each: means (3, 0), (2, 0), (1, 0); class 1: the other one; class 2: nothing.
    np.testing.assert_allclose(found.own, [3, 0, 3, 6, 6, np.nan])
    # Means of all: (2, 0), (10, 3), (0, 9).
    to_one = [math.hypot(10, 3), math.hypot(8, 3), math.hypot(6, 3)]
    to_two = [9, math.hypot(2, 9), math.hypot(4, 9)]
    others = [min(pair) for pair in zip(to_one, to_two, strict=True)]
    others += [8, min(math.hypot(8, 6), math.hypot(10, 3)), math.hypot(2, 9)]
    np.testing.assert_allclose(found.other, others)
    margin = [(other - own) / (other + own) for own, other in zip(found.own, others, strict=True)]
    np.testing.assert_allclose(found.margin, margin)


def test_generated_rows_beside_real_ones():
    made = torch.tensor([[3.0, 4.0], [2.0, 3.0], [9.0, 0.0]])
    generated = Generated(
        Rows(made, made, torch.zeros(3, 3), np.array([0, 1, 0])),
        np.array([0, 3, 2]), np.array([4, 1, 3]), batches=1,
        alone=Rows(2 * made, 2 * made, torch.zeros(3, 3), np.array([0, 1, 0])),
    )  # fmt: skip
    real = Rows(REAL, REAL, torch.zeros(6, 3), LABELS)
    section = distances(real, generated, Subsets(np.array([3, 2, 1]), 2, 2))
    found = {(s.space, s.of, s.measure): s for s in section.lines}
    # Without donors 0, 3, 2 the own means are (3, 0), (10, 6), (1, 0).
    ratio = found["embedding", "generated / real", "distance from the mean of its class"]
    own = [(4 + 8) / 2 / (6 / 3), math.hypot(8, 3) / 6]
    assert ratio.per_class == [*map(pytest.approx, own), None]
    norm = found["embedding", "generated / real", "norm"].per_class
    assert norm[:2] == pytest.approx([7 / 2, math.hypot(2, 3) / ((10 + math.hypot(10, 6)) / 2)])
    twice = found["embedding", "i alone / real", "norm"].per_class[:2]
    assert twice == pytest.approx([2 * each for each in norm[:2]])
    # (9, 0) is nearer to the mean of class 1, (2, 3) to that of class 0; (3, 4) is not.
    nearer = found["head's input", "generated", "nearer to the mean of another class"]
    assert nearer.per_class == [50.0, 100.0, None]
