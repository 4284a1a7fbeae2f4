"""Commands take subnormal numbers for zero, in all threads; a library leaves them alone."""

import subprocess
import sys

import pytest
import torch

CODE = """
import sys, warnings
sys.argv = ["-m"] if "command" in sys.argv else sys.argv
sys.orig_argv = ["python", "-m", "ltvr.train"]
warnings.simplefilter("error", UserWarning)
import ltvr, torch
import numpy as np
np.finfo(np.float32), np.finfo(np.float64)
torch.set_num_threads(2)
print(int((torch.full((2**21,), 1e-30) * 1e-9).count_nonzero()))
"""


@pytest.mark.parametrize(("who", "left"), [("command", 0), ("library", 2**21)])
def test_products_that_are_subnormal(who, left):
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot")
    command = [sys.executable, "-c", CODE, who]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == left
