"""Which training images values are chosen on."""

import numpy as np

from ltvr.posthoc.hold_out import hold_out


def test_as_many_of_each_class_as_it_can_spare():
    labels = np.repeat(np.arange(5), [100, 41, 40, 5, 1])
    held = hold_out(labels, 20, seed=0)
    assert np.bincount(labels[held], minlength=5).tolist() == [20, 20, 20, 2, 0]
    assert len(set(held)) == len(held) and (np.diff(held) > 0).all()
    assert held.tolist() == hold_out(labels, 20, seed=0).tolist()
    assert held.tolist() != hold_out(labels, 20, seed=1).tolist()
