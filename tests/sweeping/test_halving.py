"""Who goes on to the next rung of successive halving."""

import pytest

from ltvr.sweeping.halving import Halving

HALVING = Halving((10, 30, 90), 0.34)


@pytest.mark.parametrize(("of", "numbers"), [(9, [9, 3, 1]), (16, [16, 5, 2]), (2, [2, 1, 1])])
def test_the_best_third_then_the_best_ninth(of, numbers):
    assert [HALVING.number(of, rung) for rung in range(3)] == numbers


def test_the_best_go_on_in_their_order_and_of_equals_the_first():
    scores = [50.0, 70.0, 60.0, 70.0, 60.0, 60.0, 10.0, 20.0, 30.0]
    assert HALVING.going_on(scores, 9, 1) == [1, 2, 3]
    assert HALVING.going_on([scores[at] for at in (1, 2, 3)], 9, 2) == [0]
    assert HALVING.going_on([60.0] * 9, 9, 1) == [0, 1, 2]


def test_what_diverged_never_goes_on_and_the_baseline_does_besides():
    scores = [None, 40.0, None, 30.0, None, None, None, None, None]
    assert HALVING.going_on(scores, 9, 1) == [1, 3]
    assert HALVING.going_on(scores, 9, 1, always=[2]) == [1, 3]
    assert HALVING.going_on([None] * 9, 9, 1) == []
    rising = [float(n) for n in range(9)]
    assert HALVING.going_on(rising, 9, 1, always=[0]) == [0, 6, 7, 8]
    assert HALVING.going_on(rising, 9, 1, always=[8]) == [6, 7, 8]
