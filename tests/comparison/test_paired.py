"""Tests of paired gains against what is counted or written out by hand."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from ltvr.comparison.paired import holm, over_images, over_seeds


def test_mcnemar_is_the_share_of_coin_tosses_that_are_as_uneven():
    for won, lost in [(0, 1), (3, 3), (7, 1), (1, 7), (2, 6), (5, 0)]:
        both, neither = 4, 3
        before = np.array([True] * both + [False] * neither + [False] * won + [True] * lost)
        after = np.array([True] * both + [False] * neither + [True] * won + [False] * lost)
        tosses = list(itertools.product((0, 1), repeat=won + lost))  # every one as likely
        uneven = sum(abs(2 * sum(t) - len(t)) >= abs(won - lost) for t in tosses)
        found = over_images(before, after)
        assert (found.won, found.lost) == (won, lost)
        assert found.p == pytest.approx(float(Fraction(uneven, len(tosses))), rel=1e-12)
    same = np.array([True, False])
    assert over_images(same, same) == (0, 0, 1.0)
    with pytest.raises(ValueError, match="2 and 3 images"):
        over_images(same, np.array([True, False, True]))


def test_students_t_of_two_and_three_seeds_in_closed_form():
    """With 1 and 2 degrees of freedom the distribution has one, and so has its 0.975 quantile."""
    gain, half, p = over_seeds([60.0, 61.0], [63.0, 62.0])  # differences 3, 1: t = 2
    assert gain == 2.0
    assert p == pytest.approx(1 - 2 / math.pi * math.atan(2.0), rel=1e-12)
    assert half == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)
    gain, half, p = over_seeds([50.0, 50.0, 50.0], [51.0, 52.0, 56.0])  # 1, 2, 6
    error = math.sqrt(7 / 3)  # the sample variance is 7
    t = 3 / error
    assert gain == pytest.approx(3)
    assert p == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-12)
    assert half == pytest.approx(4.302652729911275 * error, rel=1e-9)  # of any table of t


def test_seeds_that_all_gain_the_same_have_no_spread_to_tell_by():
    assert over_seeds([60.0, 61.0], [60.0, 61.0]) == (0.0, None, 1.0)
    gain, half, p = over_seeds([3.999999910593033, 8.0], [5.999999866, 10.0000002])  # of float32
    assert (gain, half, p) == (2.0, None, None)
    for before, after in (([1.0], [2.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError):
            over_seeds(before, after)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.4]) == [0.8, None, 0.8]  # never falls below the one before it
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([None]) == [None]
