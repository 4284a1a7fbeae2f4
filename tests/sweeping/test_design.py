"""Points of a sweep: of a grid, and of Sobol points."""

import numpy as np
import pytest

from ltvr.sweeping.design import Range, grid, sobol

LR = Range(0.1, 1.6, log=True)


def test_a_grid_is_every_combination_the_last_option_fastest():
    points = grid({"lr": [0.3, 0.6], "mixing": ["none", "mixup", "cutmix"]})
    assert len(points) == 6 and points[0] == {"lr": 0.3, "mixing": "none"}
    assert points[1] == {"lr": 0.3, "mixing": "mixup"} and points[3]["lr"] == 0.6


def test_sobol_points_are_the_same_every_time_and_more_of_them_go_on():
    few, more = (sobol({"lr": LR, "gamma": Range(0.25, 1.0)}, n, 3) for n in (5, 16))
    assert few == more[:5] and len(more) == 16
    assert sobol({"lr": LR, "gamma": Range(0.25, 1.0)}, 5, 4) != few


@pytest.mark.filterwarnings("error")  # scipy warns of points whose number is no power of two
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sobol_points_are_even_in_every_dimension(seed):
    """Of 16 points one is in each sixteenth of a range, and of its logarithm; whole numbers and
    choices come equally often."""
    dimensions = {"lr": LR, "gamma": Range(0.0, 1.0), "n": Range(1, 4, whole=True), "c": "ab"}
    points = sobol(dimensions, 16, seed)
    for name, place in {
        "lr": lambda lr: np.log(lr / 0.1) / np.log(16),
        "gamma": lambda gamma: gamma,
    }.items():
        cells = sorted(min(int(place(point[name]) * 16), 15) for point in points)
        assert np.abs(np.subtract(cells, range(16))).max() <= 1  # rounded to four digits
    numbers = [point["n"] for point in points]
    assert [numbers.count(n) for n in (1, 2, 3, 4)] == [4, 4, 4, 4]
    assert sorted(point["c"] for point in points) == ["a"] * 8 + ["b"] * 8
    assert len(sobol(dimensions, 11, seed)) == 11


def test_the_ends_of_a_range_are_in_it():
    assert [LR.at(u) for u in (0.0, 0.5, 1.0)] == [0.1, 0.4, 1.6]
    third = Range(1 / 3, 2 / 3)
    assert third.at(0.0) == 1 / 3 and third.at(1.0) == 2 / 3  # and not rounded out of it
    whole = Range(1, 3, whole=True)
    assert [whole.at(u) for u in (0.0, 0.34, 0.99, 1.0)] == [1, 2, 3, 3]
