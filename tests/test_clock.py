"""The clock: what a step is, and streams of random numbers that do not meet."""

from dataclasses import replace

import numpy as np

from ltvr.clock import Clock, mix, stream

CLOCK = Clock(seed=7, stage="features", epochs=3, steps=5, accumulate=2)


def test_no_two_micro_batches_share_a_number():
    numbers = [
        replace(CLOCK, epoch=epoch, step=step, micro_batch=micro).micro_batches_done
        for epoch in range(3)
        for step in range(5)
        for micro in range(2)
    ]
    assert numbers == list(range(30))
    assert replace(CLOCK, epoch=2, step=4).steps_done == 14


def test_streams_are_functions_of_seed_stage_name_and_micro_batch():
    def drawn(clock, name="mixing"):
        return clock.random(name).integers(2**62)

    first = drawn(CLOCK)
    assert drawn(CLOCK) == first
    others = [
        replace(CLOCK, seed=8),
        replace(CLOCK, stage="crt"),
        replace(CLOCK, micro_batch=1),
        replace(CLOCK, epoch=1),
    ]
    assert len({first, drawn(CLOCK, "dropout"), *map(drawn, others)}) == 6


def test_streams_of_the_first_release_kept_their_numbers():
    assert [stream(3, name) for name in ("features", "crt", "statistics")] == [
        mix(3, 1), mix(3, 2), mix(3, 3)
    ]  # fmt: skip
    expected = np.random.SeedSequence((3, 2)).generate_state(1, np.uint64)[0]
    assert mix(3, 2) == int(expected) // 2
