"""Long-tailed subsets: the field's, index for index."""

import numpy as np
import pytest

from ltvr.data.longtail import longtail_counts, longtail_indices, shot_of


def test_cifar_lt_counts_are_the_fields():
    ir100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert longtail_counts(5000, 10, 100) == ir100
    totals = {
        5000: {10: 20431, 50: 13996, 100: 12406, 200: 11203},
        500: {10: 19573, 50: 12608, 100: 10847, 200: 9502},
    }
    for n_max, by_imbalance in totals.items():
        for imbalance, total in by_imbalance.items():
            counts = longtail_counts(n_max, 50000 // n_max, imbalance)
            assert (sum(counts), counts[0]) == (total, n_max)
    assert longtail_counts(5000, 10, 100, "step") == [5000] * 5 + [50] * 5
    assert longtail_counts(500, 100, 10, "none") == [500] * 100
    with pytest.raises(ValueError, match="imbalance = 0.5"):
        longtail_counts(500, 100, 0.5)


def test_cifar_lt_subset_is_the_fields_index_for_index():
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(10), 5000))
    counts = longtail_counts(5000, 10, 100)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (looked at, not used)
    chosen = longtail_indices(labels, counts)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    ranks = np.searchsorted(np.flatnonzero(labels == 0), chosen[:8])
    assert ranks.tolist() == [398, 3833, 4836, 4572, 636, 2545, 1161, 2230]
    stream, expected = np.random.RandomState(0), []  # one stream for all classes
    for k, n in enumerate(counts):
        of_class = [i for i in range(50000) if labels[i] == k]
        stream.shuffle(of_class)
        expected += of_class[:n]
    assert chosen.tolist() == expected
    assert longtail_indices(labels, counts, data_seed=1).tolist() != expected


def test_shots_split_at_the_fields_thresholds():
    assert [shot_of(n, 100, 20) for n in (101, 100, 20, 19)] == ["many", "medium", "medium", "few"]
    assert shot_of(30, many_above=29, few_below=10) == "many"
