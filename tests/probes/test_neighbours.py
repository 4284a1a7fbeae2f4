"""The nearest real rows by a formula of our own, and whose label they have."""

import numpy as np
import pytest
import torch

from ltvr.probes import neighbours as module
from ltvr.probes.lines import Subsets
from ltvr.probes.neighbours import nearest, neighbours
from ltvr.probes.rows import Generated, Rows


def brute_force(rows, real, k, metric, without):
    found = []
    for q, row in enumerate(rows):
        if metric == "cosine":
            far = [-np.dot(row, x) / np.linalg.norm(row) / np.linalg.norm(x) for x in real]
        else:
            far = [np.linalg.norm(row - x) for x in real]
        order = [i for i in np.argsort(far) if without is None or i not in without[q]]
        found.append(order[:k])
    return np.array(found)


@pytest.mark.parametrize("metric", ["cosine", "L2"])
@pytest.mark.parametrize("leave_out", [False, True])
def test_nearest_is_brute_force(metric, leave_out, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)  # several blocks, the last one smaller
    random = np.random.default_rng(0)
    real = 40 + random.normal(size=(50, 6))  # far from the origin
    rows = 40 + random.normal(size=(17, 6))
    without = random.integers(0, 50, (17, 2)) if leave_out else None
    found = nearest(torch.tensor(rows).float(), torch.tensor(real).float(), 5, metric, without)
    assert found.tolist() == brute_force(rows, real, 5, metric, without).tolist()


def rows_of(points, labels):
    points = torch.tensor(points)
    return Rows(points, points, torch.zeros(len(points), 2), np.array(labels))


def test_whose_label_the_neighbours_have():
    """Two heaps of three; one row of class 0 in its own heap, one in that of its donor j."""
    real = rows_of(
        [[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0], [0.1, 1.0], [0.3, 1.0]], [0, 0, 0, 1, 1, 1]
    )
    made = rows_of([[1.0, 0.01], [0.02, 1.0], [1.0, 0.2]], [0, 0, 1])
    generated = Generated(made, np.array([0, 1, 3]), np.array([3, 4, 4]), batches=1, alone=made)
    section = neighbours(real, generated, Subsets(np.array([3, 3]), 1, 0), k=3)
    found = {(s.space, s.of, s.measure): s.per_class for s in section.lines}
    half = [pytest.approx(50), None]
    for space in ("embedding", "head's input"):
        # Row 0 without 0 and 3: 1 and 2 of class 0, one of class 1. Row 1 without 1 and 4: 3 and 5
        # of class 1, one of class 0. Row 2 has two donors of class 1: it is no row of two labels.
        assert found[space, "generated", "3 nearest: own class"] == half
        assert found[space, "generated", "3 nearest: class of the variation donor"] == half
        assert found[space, "generated", "3 nearest: neither"] == [pytest.approx(0), None]
        assert found[space, "generated", "nearest: own class"] == half
        assert found[space, "generated", "nearest of all is the class donor i"] == half
        assert found[space, "generated", "nearest of all is the variation donor j"] == [0, None]
        assert found[space, "real", "3 nearest: own class"] == [pytest.approx(200 / 3)] * 2
        assert found[space, "real", "nearest: own class"] == [100, 100]
    assert found["any", "real", "own class, by chance"] == [50, 50]


def test_where_every_donor_is_the_rows_own_there_are_no_rows_of_two_labels():
    real = rows_of([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [0.3, 1.0]], [0, 0, 1, 1, 1])
    own = np.array([0, 3])
    made = rows_of([[1.0, 0.01], [0.1, 1.0]], [0, 1])
    generated = Generated(made, own, own, batches=1, alone=made)
    section = neighbours(real, generated, Subsets(np.array([2, 3]), 1, 0), k=2)
    assert {line.of for line in section.lines} == {"real"}
    assert section.figures.keys() == {"neighbours"}
