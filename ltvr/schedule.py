"""Learning rate of a step: linear warm-up, then cosine to 0."""

from __future__ import annotations

import math

__all__ = ["cosine"]


def cosine(step: int, steps: int, warmup: int = 0) -> float:
    """Factor on the base learning rate at ``step`` (from 0) of ``steps``.

    1 at the first step after the warm-up and above 0 at the last: no step is wasted at rate 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
