"""How long the threads of OpenMP wait for each other before they sleep, in our commands."""

from __future__ import annotations

import os

__all__ = ["wait_briefly"]

SPINS = "1000"
"""Looks at what a thread waits for, before it sleeps: those that libgomp takes by itself where it
starts more threads than there are cores. It starts as many, and does not see that others are at
work on them; with its 300,000 looks a training then waits for a thread that waits for a core
(``bench/shared_cores.py``)."""


def wait_briefly() -> None:
    """Have libgomp wait no longer than ``SPINS``, where the user has not said how long.

    To be called before torch is imported, which loads it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
