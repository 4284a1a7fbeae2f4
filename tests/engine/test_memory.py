"""The high-water mark of memory rises with what is held at once, and starts anew."""

import sys

import pytest
import torch

from ltvr.engine.memory import capacity, most_used, start_measuring

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it counts from the start")
def test_memory_in_use_at_most():
    most = []
    for megabytes in (400, 100, 1):
        start_measuring(CPU)
        torch.ones(megabytes * 250_000)
        most.append(most_used(CPU))
    assert 280e6 < most[0] - most[1] < 320e6
    assert 80e6 < most[1] - most[2] < 120e6
    assert most[0] < capacity(CPU)
