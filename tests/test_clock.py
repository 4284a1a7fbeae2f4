"""The clock: what a step is, and streams of random numbers that do not meet."""

from dataclasses import replace

import numpy as np

from ltvr.clock import Clock, first_epoch, mix, stream

CLOCK = Clock(seed=7, stage="features", epochs=3, steps=5, accumulate=2)


def test_no_two_steps_share_a_number():
    numbers = [
        replace(CLOCK, epoch=epoch, step=step, micro_batch=1).steps_done
        for epoch in range(3)
        for step in range(5)
    ]
    assert numbers == list(range(15))


def test_a_share_of_the_epochs_is_the_nearest_epoch():
    begun = [(0.0, 90), (1 / 3, 90), (0.8, 200), (0.5, 5), (0.5, 7), (0.8, 0)]
    assert [first_epoch(*of) for of in begun] == [0, 30, 160, 2, 4, 0]


def test_streams_are_functions_of_seed_stage_name_and_step():
    def drawn(clock, name="mixing"):
        return clock.random(name).integers(2**62)

    first = drawn(CLOCK)
    assert drawn(CLOCK) == first
    others = [
        replace(CLOCK, seed=8),
        replace(CLOCK, stage="crt"),
        replace(CLOCK, step=1),
        replace(CLOCK, epoch=1),
    ]
    assert len({first, drawn(CLOCK, "dropout"), *map(drawn, others)}) == 6


def test_streams_of_the_first_release_kept_their_numbers():
    assert [stream(3, name) for name in ("features", "crt", "statistics")] == [
        mix(3, 1), mix(3, 2), mix(3, 3)
    ]  # fmt: skip
    expected = np.random.SeedSequence((3, 2)).generate_state(1, np.uint64)[0]
    assert mix(3, 2) == int(expected) // 2
