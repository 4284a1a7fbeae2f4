"""What tests of operators share: without conftest.py, as ``bench/gpu_suite.sh`` runs them."""

import os

import pytest
import torch

from ltvr.afa import ops

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NATIVE = torch.cuda.is_available() and not INTERPRETED

needs_extension = pytest.mark.skipif(
    not ops.extension_available(), reason="the C++ extension is not built"
)
needs_triton = pytest.mark.skipif(
    not (INTERPRETED or NATIVE), reason="Triton on a CPU needs TRITON_INTERPRET=1"
)


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory():
    """Fill every torch.empty and at::empty with NaN, in each file that imports this."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)
