"""Paths in one buffer: as a list of paths, without a copy for each process that reads them."""

import os
import sys
from pathlib import Path
from subprocess import run

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


# Megabytes that a forked worker has of its own after it has read all paths: from a list, and from
# Paths. In a process of its own, whose parent sleeps: what a parent writes to becomes private, too.
MEASURE = """
import gc, os
from ltvr.data.paths import Paths

def private():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1e3

names = [f"photos/train/class_{i % 1000:04d}/image_{i:08d}.jpg" for i in range(100_000)]
for read in names.__getitem__, Paths(names).text:
    if not os.fork():
        gc.freeze()  # as workers do
        before = private()
        for index in range(len(names)):
            read(index)
        print(private() - before, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_worker_has_no_copy_of_the_paths():
    measured = run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    of_a_list, of_paths = map(float, measured.stdout.split())
    assert of_a_list > 5 and of_paths < 2
