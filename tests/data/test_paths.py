"""Paths in one buffer: as a list of paths, without a copy for each process that reads them."""

import gc
import os
import resource
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
    """Megabytes that a fork writes to when it calls ``read`` for all names: a fault a page."""
    here, there = os.pipe()
    if not os.fork():
        gc.freeze()  # as workers do
        before = faults()
        for index in range(100_000):
            read(index)
        os.write(there, str((faults() - before) * resource.getpagesize() / 1e6).encode())
        os._exit(0)
    os.wait()
    return float(os.read(here, 64))


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_a_worker_has_no_copy_of_the_paths():
    names = [f"/data/images/train/class_{i % 1000:04d}/image_{i:08d}.jpg" for i in range(100_000)]
    assert copied(names.__getitem__) > 5  # what a list costs
    assert copied(Paths(names).text) < 2
