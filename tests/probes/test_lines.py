"""Means of rows: every class counts alike."""

import numpy as np
import pytest

from ltvr.probes.lines import Subsets

SUBSETS = Subsets(np.array([500, 200, 50, 5]), many_above=100, few_below=20)


def test_every_class_counts_alike_however_many_rows_it_has():
    values = np.array([True, True, True, False, False, True, False])
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    line = SUBSETS.line("right", "rows", values, labels)
    assert line.per_class == [75.0, 0.0, 50.0, None]
    assert line.means == {
        "all": pytest.approx(125 / 3), "many": 37.5, "medium": 50.0, "few": None,
    }  # fmt: skip


def test_rows_without_a_value_are_left_out():
    values = np.array([1.0, np.nan, np.nan, 4.0])
    line = SUBSETS.line("distance", "rows", values, np.array([0, 0, 1, 3]), unit="")
    assert line.per_class == [1.0, None, None, 4.0] and line.means["few"] == 4.0
    assert line.means["medium"] is None and line.means["many"] == 1.0
