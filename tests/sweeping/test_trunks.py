"""Which configurations fork from which trunk."""

import numpy as np
import pytest

from ltvr.sweeping.trunks import Trunk, plan_trunks


def by_start(a, b):
    """Configurations are (learning rate, epoch at which generation begins, its weight)."""
    if a[0] != b[0]:
        return 0
    return 40 if a == b else min(a[1], b[1])


def trained(trunks, configs, epochs=40):
    """Epochs that are trained in all: those of the trunks, each once, and of what forks."""

    def own(trunk):
        return trunk.epoch - (trunk.source.epoch if trunk.source else 0)

    every = set()
    for trunk in trunks:
        while trunk is not None:
            every.add(trunk)
            trunk = trunk.source
    return sum(map(own, every)) + sum(epochs - (t.epoch if t else 0) for t in trunks)


def test_those_that_part_at_one_epoch_share_a_trunk():
    configs = [(0.3, 26, 1), (0.3, 26, 2), (0.3, 26, 3)]
    trunks = plan_trunks(configs, by_start)
    assert trunks == [Trunk(26, 0, None)] * 3
    assert trained(trunks, configs) == 26 + 3 * 14


def test_a_trunk_forks_from_a_trunk():
    configs = [(0.3, 34, 1), (0.3, 26, 1), (0.3, 30, 1), (0.3, 34, 2)]
    low = Trunk(26, 0, None)
    middle = Trunk(30, 0, low)
    high = Trunk(34, 0, middle)
    trunks = plan_trunks(configs, by_start)
    assert trunks == [high, low, middle, high]
    assert trained(trunks, configs) == 34 + 6 + 14 + 10 + 6


def test_what_has_nothing_in_common_forks_from_nothing():
    assert plan_trunks([], by_start) == []
    assert plan_trunks([(0.3, 26, 1)], by_start) == [None]
    configs = [(0.3, 26, 1), (0.6, 26, 1), (1.2, 26, 1), (0.6, 20, 1)]
    assert plan_trunks(configs, by_start) == [None, Trunk(20, 1, None), None, Trunk(20, 1, None)]
    assert plan_trunks([(0.3, 0, 1), (0.3, 0, 2)], by_start) == [None, None]


def test_those_that_differ_in_later_stages_alone_share_all_of_the_first():
    assert plan_trunks([(0.3, 26, 1), (0.3, 26, 1)], by_start) == [Trunk(40, 0, None)] * 2


@pytest.mark.parametrize("seed", range(5))
def test_no_epoch_that_two_have_in_common_is_trained_twice(seed):
    """Held to the number of different states (what is in common until the end of an epoch)."""
    random = np.random.default_rng(seed)
    configs = [
        (float(lr), int(start), int(weight))
        for lr, start, weight in random.integers(0, [2, 40, 3], (12, 3))
    ]
    states = {
        (lr, epoch, (start, weight) if epoch > start else ())
        for lr, start, weight in configs
        for epoch in range(1, 41)
    }
    # Those that are the same all along are each their own run, of no epoch more.
    assert trained(plan_trunks(configs, by_start), configs) == len(states)
