"""The order of the samplers: reproducible, and with the frequencies that each one promises."""

import numpy as np
import pytest

from ltvr.config.options import NoOptions
from ltvr.samplers import SAMPLERS
from ltvr.samplers.base import Sampler
from ltvr.samplers.build import Halves
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions
from ltvr.samplers.instance import Instance
from ltvr.samplers.progressive import Progressive, ProgressiveOptions
from ltvr.settings import SCHEMA

LABELS = np.repeat([0, 1, 2, 4], [600, 300, 90, 3])


def order(sampler, epoch=0, seed=0, epochs=10, **options):
    return SAMPLERS.build(SCHEMA.config(options), sampler).epoch(
        LABELS, seed=seed, epoch=epoch, epochs=epochs
    )


def test_every_order_is_a_pure_function_of_seed_and_epoch():
    for sampler in SAMPLERS.names():
        first = order(sampler, 1)
        assert len(first) == len(LABELS)
        assert (first == order(sampler, 1)).all()
        assert (first != order(sampler, 2)).any() and (first != order(sampler, 1, seed=1)).any()
    assert sorted(order("instance")) == list(range(len(LABELS)))


def test_class_aware_takes_four_in_a_row_from_cycles_of_shuffled_classes():
    drawn = order("class-aware")
    visits = drawn[: len(drawn) // 4 * 4].reshape(-1, 4)
    visited = LABELS[visits[:, 0]]
    assert (LABELS[visits] == visited[:, None]).all()
    cycles = visited[: len(visited) // 4 * 4].reshape(-1, 4)
    assert (np.sort(cycles, 1) == [0, 1, 2, 4]).all()
    assert len(np.unique(cycles, axis=0)) > 10  # each cycle is shuffled anew
    head = drawn[LABELS[drawn] == 0]
    assert len(set(head)) == len(head) < 600  # no image twice before all were seen
    tail = drawn[LABELS[drawn] == 4]
    assert {tuple(sorted(lap)) for lap in tail[: len(tail) // 3 * 3].reshape(-1, 3)} == {
        (990, 991, 992)
    }


def test_class_aware_goes_on_in_the_next_epoch_where_it_was():
    sizes = [600, 301, 90, 1]  # 248 visits an epoch: laps end within epochs
    labels, sampler = np.repeat([0, 1, 2, 3], sizes), ClassAware(ClassAwareOptions())
    drawn = np.concatenate(
        [sampler.epoch(labels, seed=3, epoch=epoch, epochs=9) for epoch in range(9)]
    )
    for k, size in enumerate(sizes):
        own = drawn[labels[drawn] == k]
        laps = own[: len(own) // size * size].reshape(-1, size)
        assert len(laps) >= 3 and (np.sort(laps, 1) == np.flatnonzero(labels == k)).all()


def frequencies(sampler, epoch, **options):
    drawn = np.concatenate([order(sampler, epoch, seed, **options) for seed in range(100)])
    assert len(np.unique(drawn)) == len(LABELS)
    return np.bincount(LABELS[drawn], minlength=5) / len(drawn)


def test_square_root_and_progressive_frequencies():
    n = np.array([600, 300, 90, 0, 3])
    root = np.sqrt(n) / np.sqrt(n).sum()
    np.testing.assert_allclose(frequencies("square-root", 3), root, atol=0.006)
    np.testing.assert_allclose(frequencies("progressive", 0), n / n.sum(), atol=0.006)
    later = n / n.sum() / 3 + 2 / 3 * (n > 0) / 4  # 6 of the 9 epochs after the first
    np.testing.assert_allclose(frequencies("progressive", 6), later, atol=0.006)
    np.testing.assert_allclose(frequencies("progressive", 9), (n > 0) / 4, atol=0.006)


def test_progressive_shares_end_balanced_and_an_only_epoch_is_by_instance():
    counts = np.array([6, 3, 0, 1])
    progressive = SAMPLERS.build(SCHEMA.config({}), "progressive")
    by_hand = {0: [0.6, 0.3, 0, 0.1], 1: [7 / 15, 19 / 60, 0, 13 / 60], 2: [1 / 3, 1 / 3, 0, 1 / 3]}
    for epoch, expected in by_hand.items():
        np.testing.assert_allclose(progressive.shares(counts, epoch, 3), expected)
    np.testing.assert_allclose(progressive.shares(counts, 0, 1), by_hand[0])


def test_class_aware_draws_with_replacement_where_asked():
    options = {"class_aware_draw": "multinomial"}
    balanced = np.array([1, 1, 1, 0, 1]) / 4
    np.testing.assert_allclose(frequencies("class-aware", 3, **options), balanced, atol=0.006)
    drawn = order("class-aware", **options)
    head = drawn[LABELS[drawn] == 0]
    assert len(set(head)) < len(head) < 600  # some come twice before all have come
    runs = np.flatnonzero(np.diff(LABELS[drawn])).size
    assert runs > 0.7 * len(drawn)  # not 4 in a row: 3 of 4 neighbours are of another class


def test_progressive_takes_a_class_in_cycles_where_asked():
    options = {"progressive_draw": "cycles"}
    for epoch in (0, 9):
        drawn = order("progressive", epoch, **options)
        for k in (0, 4):
            own = np.flatnonzero(k == LABELS)
            came = drawn[LABELS[drawn] == k]
            times = np.bincount(came, minlength=len(LABELS))[own]
            assert times.max() - times.min() <= 1
        laps = came[: len(came) // 3 * 3].reshape(-1, 3)
        assert (np.sort(laps, 1) == own).all()
    n = np.array([600, 300, 90, 0, 3])
    found = frequencies("progressive", 0, **options)
    np.testing.assert_allclose(found, n / n.sum(), atol=0.006)


@pytest.mark.parametrize(
    ("sampler", "options", "weight"),
    [
        ("class-aware", {"class_aware_draw": "multinomial"}, lambda n: 1 / n),
        ("square-root", {}, lambda n: n**-0.5),
        ("progressive", {"progressive_draw": "multinomial"}, lambda n: 0.5 / 993 + 0.5 / (4 * n)),
        ("effective-number", {}, lambda n: 1 / sum(0.9999**i for i in range(n))),
        (
            "effective-number",
            {"effective_number_sampler_beta": 0.99},
            lambda n: (1 - 0.99**n) ** -1,
        ),
        ("effective-number", {"effective_number_sampler_beta": 0.0}, lambda n: 1.0),
    ],
)
def test_with_replacement_every_image_is_drawn_by_its_weight(sampler, options, weight):
    """Counting images: a multinomial by the weights of the images, as the field's codes draw."""
    epochs, made = 200, SAMPLERS.build(SCHEMA.config(options), sampler)
    of_class = {k: weight(int(n)) for k, n in enumerate(np.bincount(LABELS)) if n}
    weights = np.array([of_class[k] for k in LABELS])
    drawn = [made.epoch(LABELS, seed=seed, epoch=1, epochs=3) for seed in range(epochs)]
    came = np.stack([np.bincount(each, minlength=len(LABELS)) for each in drawn])  # [epochs, n]
    p = weights / weights.sum()
    expected = epochs * len(LABELS) * p
    assert (abs(came.sum(0) - expected) < 5 * np.sqrt(expected)).all()
    head = came[:, LABELS == 0]  # with replacement: the variance of a binomial, not that of cycles
    assert head.var() == pytest.approx(len(LABELS) * p[0] * (1 - p[0]), rel=0.05)


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_gives_the_shares_that_it_states(sampler):
    counts = np.bincount(LABELS, minlength=5)
    for epoch in (0, 7):
        stated = SAMPLERS.build(SCHEMA.config({}), sampler).shares(counts, epoch, 10)
        assert stated.sum() == pytest.approx(1)
        np.testing.assert_allclose(stated, frequencies(sampler, epoch), atol=0.006)


def test_an_order_of_another_length_is_refused():
    class Half(Sampler):
        def order(self, labels, seed, epoch, epochs):
            return np.arange(len(labels) // 2)

    with pytest.raises(TypeError, match="Half.order gave shape .* expected as many indices"):
        Half(NoOptions()).epoch(LABELS, seed=0, epoch=0, epochs=1)


def test_halves_of_a_batch_are_of_two_samplers():
    labels = np.array([0] * 90 + [1] * 10)
    order = Halves(ClassAware(ClassAwareOptions()), Instance(NoOptions()), 8).epoch(
        labels, seed=0, epoch=0, epochs=1
    )
    batches = labels[order[:96]].reshape(6, 2, 8)
    assert (batches[:, 0].sum(1) == 4).all()  # of each class as many
    second = order[:96].reshape(6, 2, 8)[:, 1].reshape(-1)
    assert len(set(second.tolist())) == 48 and len(order) == 100


@pytest.mark.parametrize("number", [96, 100, 101])
def test_halves_read_every_sample_before_any_comes_again(number):
    """Two epochs, as each takes half a lap; the shares are those of the order's own epoch."""
    labels = np.zeros(number, np.int64)
    halves = Halves(ClassAware(ClassAwareOptions()), Instance(NoOptions()), 8)
    used = number // 16 * 16
    two = [halves.epoch(labels, seed=0, epoch=e, epochs=2)[:used] for e in (0, 1)]
    for half in range(2):
        of_half = np.concatenate([order.reshape(-1, 2, 8)[:, half].reshape(-1) for order in two])
        assert len(set(of_half.tolist())) == len(of_half)
    labels, counts = np.array([0] * 90 + [1] * 10), np.array([90, 10])
    halves = Halves(Progressive(ProgressiveOptions()), Instance(NoOptions()), 8)
    for epoch, share in enumerate([0.1, 0.1, 0.3, 0.3, 0.5]):
        assert halves.shares(counts, epoch, 5)[1] == pytest.approx(share)
        found = halves.epoch(labels, seed=0, epoch=epoch, epochs=5)[:96].reshape(6, 2, 8)[:, 0]
        assert labels[found].mean() == pytest.approx(share, abs=0.15)
