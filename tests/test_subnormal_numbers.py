"""Commands take subnormal numbers for zero, in all threads; a library leaves them alone."""

import subprocess
import sys

import pytest
import torch

CODE = """
import sys, warnings
sys.argv, sys.orig_argv = [sys.argv[1]], sys.argv[2:]
warnings.simplefilter("error", UserWarning)
import ltvr, torch
import numpy as np
np.finfo(np.float32), np.finfo(np.float64)
torch.set_num_threads(2)
print(int((torch.full((2**21,), 1e-30) * 1e-9).count_nonzero()))
"""


@pytest.mark.parametrize(
    ("name", "python", "left"),
    [
        ("-m", "python -m ltvr.train", 0),
        ("-m", "python -umltvr.train", 0),
        ("ltvr.train", "python -m cProfile -o file -m ltvr.train", 0),
        ("program.py", "python program.py -m ltvr.yaml", 2**21),
        ("-m", "python -m program ltvr.train", 2**21),
    ],
)
def test_products_that_are_subnormal(name, python, left):
    """The first word is what ``sys.argv`` begins with while ltvr is imported."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot")
    command = [sys.executable, "-c", CODE, name, *python.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == left
