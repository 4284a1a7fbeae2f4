"""Commands keep the memory that they free, unless the user says otherwise; workers return it."""

import ctypes
import os
import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="there is no mallopt: it is of glibc"
)

CODE = """
import ctypes, resource, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size, to be counted
sys.argv = ["-m"] if "command" in sys.argv else sys.argv
sys.orig_argv = ["python", "-m", "ltvr.train"]
from ltvr import freed_memory
import torch
{more}
for _ in range(11):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2**26 // resource.getpagesize()
"""Of the tensor, 64 MiB."""


@pytest.mark.parametrize(
    ("who", "said", "more", "kept"),
    [
        ("command", {}, "", True),
        ("library", {}, "", False),
        ("command", {"MALLOC_TRIM_THRESHOLD_": "131072"}, "", False),
        ("command", {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, "", False),
        ("command", {}, "freed_memory.give_back()", False),
    ],
    ids=["command", "library", "variable", "tunable", "worker"],
)
def test_the_next_tensor_has_the_pages_of_the_last(who, said, more, kept):
    before = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(more=more), who],
        env={**before, **said},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    faults = int(done.stdout)
    assert faults < PAGES // 100 if kept else faults >= PAGES
