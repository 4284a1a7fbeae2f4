"""A linear probe on data whose answer is known."""

import numpy as np
import pytest
import torch

from ltvr.probes.linear import STRENGTHS, linear_probe

CENTRES = np.eye(3, 5) * 6


def data(each, seed):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    rows = CENTRES[labels] + random.normal(size=(len(labels), 5))
    return torch.tensor(rows * [1, 1e-4, 1e-4, 1, 1], dtype=torch.float32), labels


def test_separable_classes_are_told_whatever_their_scale_and_number():
    rows, labels = data((300, 40, 5), 0)
    asked, expected = data(100, 1)
    probe = linear_probe(rows, labels, asked, seed=0)
    accuracy = [(probe.predicted == expected)[expected == c].mean() for c in range(3)]
    assert min(accuracy) > 0.97  # of the class of five images, too
    assert probe.converged and probe.described["C"] in STRENGTHS
    again = linear_probe(rows, labels, asked, seed=0)
    assert (again.predicted == probe.predicted).all() and again.validation == probe.validation


def test_noise_is_not_told_and_its_strength_is_the_best_of_the_folds():
    random = np.random.default_rng(0)
    rows = torch.tensor(random.normal(size=(240, 40)), dtype=torch.float32)
    labels = np.arange(240) % 3
    probe = linear_probe(rows, labels, rows, seed=1)
    best = max(probe.validation.values())
    assert best < 45  # of 33.3: the folds were not fitted to themselves
    assert probe.validation[f"{probe.strength:g}"] == best


def test_every_class_weighs_the_same():
    """Where rows say nothing, a class of nine tenths is asked for no more than the other."""
    random = np.random.default_rng(2)
    rows = torch.tensor(random.normal(size=(1000, 2)), dtype=torch.float32)
    probe = linear_probe(rows, (np.arange(1000) % 10 == 0).astype(np.int64), rows, seed=0)
    assert 0.3 < probe.predicted.mean() < 0.7


@pytest.mark.parametrize("smallest", [1, 2])
def test_fewer_rows_of_a_class_than_folds(smallest):
    rows, labels = data((20, 20, smallest), 3)
    probe = linear_probe(rows, labels, rows, seed=0)
    assert len(probe.validation) == (0 if smallest == 1 else len(STRENGTHS))
    assert probe.strength == STRENGTHS[2] or smallest > 1
    assert (probe.predicted == labels).mean() > 0.95
