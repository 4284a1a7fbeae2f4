"""What tests of operators share: without conftest.py, as ``bench/gpu_suite.sh`` runs them."""

import importlib.util
import os

import pytest
import torch

from ltvr import plan_synthesis
from ltvr.afa import ops

TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = TRITON and os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:  # whose time is by the block, of which a GPU needs many small ones
    from ltvr.kernels import projections

    projections.ABSORB_BLOCK = 64
NATIVE = TRITON and torch.cuda.is_available() and not INTERPRETED
CPU = torch.device("cpu")
DEVICE = {"cpp": CPU, "triton": torch.device("cuda") if NATIVE else CPU}

needs_extension = pytest.mark.skipif(
    not ops.extension_available(), reason="the C++ extension is not built"
)
needs_triton = pytest.mark.skipif(
    not (INTERPRETED or NATIVE), reason="Triton on a CPU needs TRITON_INTERPRET=1"
)
BACKENDS = [
    pytest.param("cpp", marks=needs_extension),
    pytest.param("triton", marks=needs_triton),
]


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory():
    """Fill every torch.empty and at::empty with NaN, in each file that imports this."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


def problem(shape, projection="linear", gamma=1.0, seed=0):
    """Features, weights and plan in float64; scores of a few units."""
    batch, channels, height, width = shape
    g = torch.Generator().manual_seed(seed)
    size = height * width if projection == "linear" else channels
    shapes = [(size, size)] * 3 + [(max(1, channels // 4), channels)]
    weights = [torch.randn(s, generator=g, dtype=torch.float64) / s[1] ** 0.5 for s in shapes]
    weights.append(torch.randn(channels, shapes[3][0], generator=g, dtype=torch.float64))
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 3, (batch,), generator=g)
    return x, weights, plan_synthesis(labels, gamma=gamma, seed=seed, step=0)


def relative_rms(got, expected):
    difference = (got.double() - expected).pow(2).mean().sqrt()
    return (difference / expected.pow(2).mean().sqrt().clamp_min(1e-30)).item()
