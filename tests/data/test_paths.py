"""Paths in one buffer: as a list of paths, without a copy for each process that reads them."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from ltvr.data.paths import Paths

NAMES = ["a/b.png", "/c d/é.jpg", os.fsdecode(b"\xff\x80.png"), "x"]


def test_paths_are_as_in_a_list():
    paths, expected = Paths(NAMES), [Path(name) for name in NAMES]
    assert list(paths) == expected and len(paths) == 4 and paths[2] == expected[2]
    assert list(paths.take(np.array([3, 0, 3]))) == [expected[i] for i in (3, 0, 3)]
    assert not Paths() and list(Paths().take(np.array([], np.int64))) == []
    for wrong in (-1, 4):
        with pytest.raises(IndexError):
            paths[wrong]


def copied(read):
    """Megabytes that a fork has of its own after it has called ``read`` for all names."""
    here, there = os.pipe()
    if not os.fork():
        gc.freeze()  # as workers do
        before = private()
        for index in range(100_000):
            read(index)
        os.write(there, str(private() - before).encode())
        os._exit(0)
    os.wait()
    return float(os.read(here, 64))


def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1e3


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_worker_has_no_copy_of_the_paths():
    names = [f"/data/images/train/class_{i % 1000:04d}/image_{i:08d}.jpg" for i in range(100_000)]
    assert copied(names.__getitem__) > 5  # what a list costs
    assert copied(Paths(names).text) < 2
