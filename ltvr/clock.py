"""Where training stands, and the random streams that follow from it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

__all__ = ["Clock", "first_epoch", "mix", "stream"]

NUMBERED = {"features": 1, "crt": 2, "statistics": 3}
"""Streams that had numbers before they had names; they keep them, and with them every result."""


def mix(*words: int) -> int:
    """A 63-bit seed that is a pure function of its words (a seed, a stream, an epoch, ...)."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def stream(seed: int, name: str) -> int:
    """The seed of a named stream of random numbers of the run with this ``seed``.

    Streams of different names are independent: a component that draws under a name of its own
    changes no number that another one draws.
    """
    return mix(seed, NUMBERED.get(name) or zlib.crc32(name.encode()))


def first_epoch(share: float, epochs: int) -> int:
    """The epoch, from 0, with which what begins at a ``share`` of the ``epochs`` begins.

    The nearest whole one, and the even one of two that are as near.
    """
    return round(share * epochs)


@dataclass(frozen=True)
class Clock:
    """Where a stage of training stands.

    A *step* is one update of the weights by one batch. Every rank takes its share of the batch in
    ``accumulate`` *micro-batches*, each with one forward and one backward pass.
    """

    seed: int
    """Of the run."""
    stage: str
    """Name of the stage."""
    epochs: int
    """E, the epochs of the stage."""
    steps: int
    """Steps an epoch."""
    accumulate: int = 1
    """Micro-batches a step, of every rank."""
    epoch: int = 0
    """e, the epochs done."""
    step: int = 0
    """Steps done of this epoch."""
    micro_batch: int = 0
    """Micro-batches done of this step."""

    @property
    def steps_done(self) -> int:
        """Steps done since the stage began: no two of a stage share this number.

        The learning rate is a function of it.
        """
        return self.epoch * self.steps + self.step

    def random(self, name: str) -> np.random.Generator:
        """Random numbers of the stream ``name`` of this stage, for this step alone."""
        seed = stream(self.seed, f"{self.stage}/{name}")
        return np.random.default_rng([seed, self.steps_done])
