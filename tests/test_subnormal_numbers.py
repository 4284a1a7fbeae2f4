"""Commands take subnormal numbers for zero, in all threads; a library leaves them alone."""

import subprocess
import sys

import pytest
import torch

CODE = """
import sys, warnings
sys.orig_argv = sys.argv[1:]
warnings.simplefilter("error", UserWarning)
import ltvr, torch
import numpy as np
np.finfo(np.float32), np.finfo(np.float64)
torch.set_num_threads(2)
print(int((torch.full((2**21,), 1e-30) * 1e-9).count_nonzero()))
"""


@pytest.mark.parametrize(
    ("python", "left"),
    [
        ("python -m ltvr.train", 0),
        ("python -umltvr.train", 0),
        ("python -m cProfile -o file -m ltvr.train", 0),
        ("python program.py ltvr.train", 2**21),
        ("python -m program ltvr.train", 2**21),
    ],
)
def test_products_that_are_subnormal(python, left):
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot")
    command = [sys.executable, "-c", CODE, *python.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == left
