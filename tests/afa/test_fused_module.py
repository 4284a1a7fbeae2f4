"""The module AFA by the fused backends: in a training step, and which backend is taken."""

import pytest
import torch
from operators import (
    BACKENDS,
    CPU,
    DEVICE,
    nan_in_uninitialised_memory,  # noqa: F401 (pytest uses it)
    needs_extension,
    problem,
    relative_rms,
)

from ltvr import AFA, plan_synthesis
from ltvr.afa import functional, ops
from ltvr.afa.planning import most_generated


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def module(backend, **options):
    torch.manual_seed(0)
    return AFA(24, (2, 2), reduction=4, initialisation="uniform", backend=backend, **options)


def step(afa, x, plan):
    features = afa.generate(x, plan)
    features.square().sum().backward()
    return features.detach(), *(p.grad for p in afa.parameters())


def test_same_bits_in_every_run(backend):
    device = DEVICE[backend]
    x, _, plan = problem((4, 24, 2, 2))
    arguments = x.float().to(device), plan.to(device)
    first, again = (step(module(backend).to(device), *arguments) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@needs_extension
def test_autocast():
    x, _, plan = problem((4, 24, 2, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, *grads = step(module("cpp"), x.float(), plan)
    expected, *expected_grads = step(module("reference").double(), x, plan)
    assert features.dtype == torch.bfloat16
    assert relative_rms(features, expected) < 0.01
    for got, exact in zip(grads, expected_grads, strict=True):
        assert got.dtype == torch.float32
        assert relative_rms(got, exact) < 0.03


@pytest.mark.parametrize("mask_axis", ["spatial", "channel"])
def test_the_backward_has_the_precision_of_the_forward(backend, mask_axis):
    """Autocast may be on where backward is called, as in a loop that is all within it."""
    torch.manual_seed(0)
    device = DEVICE[backend]
    afa = AFA(24, (5, 5), reduction=4, mask_axis=mask_axis, backend=backend).to(device)
    x, _, plan = problem((4, 24, 5, 5))
    x, plan, parameters = x.float().to(device), plan.to(device), list(afa.parameters())
    loss = afa.generate(x, plan).square().sum()
    expected = torch.autograd.grad(loss, parameters, retain_graph=True)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        got = torch.autograd.grad(loss, parameters)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@needs_extension
def test_autocast_leaves_float64_as_it_is():
    x, _, plan = problem((4, 24, 2, 2))
    afa = module("cpp").double()
    expected = afa.generate(x, plan)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(afa.generate(x, plan), expected)


@needs_extension
@pytest.mark.parametrize("projection", ["linear", "conv1x1"])
def test_compiles_without_a_graph_break(projection):
    x, _, plan = problem((4, 24, 2, 2))
    expected = step(module("cpp", projection=projection), x.float(), plan)
    afa = module("cpp", projection=projection)
    augment = torch.compile(afa.generate, fullgraph=True, backend="aot_eager")
    features = augment(x.float(), plan)
    features.square().sum().backward()
    got = features.detach(), *(p.grad for p in afa.parameters())
    torch.testing.assert_close(got, expected)


@needs_extension
def test_padded_plans_compile_once():
    torch.compiler.reset()
    afa = module("cpp")
    augment = torch.compile(afa.generate, fullgraph=True, backend="aot_eager", dynamic=False)
    generated = set()
    for step_number, classes in enumerate((1, 2, 4)):
        labels = torch.arange(4) % classes
        plan = plan_synthesis(labels, gamma=1.3, seed=0, step=step_number)
        generated.add(plan.generated)
        x = torch.randn(4, 24, 2, 2)
        with torch._dynamo.config.patch(error_on_recompile=step_number > 0):
            features = augment(x, plan.padded(most_generated(4, 1.3, 4)))
        expected = afa.generate(x, plan)
        torch.testing.assert_close(features[: len(expected)], expected)
    assert len(generated) > 1


# ---- The choice of a backend -------------------------------------------------------------------


def test_a_backend_that_cannot_run_says_what_to_do(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(ops.importlib.util, "find_spec", lambda _: True)  # as if there were Triton
    with pytest.raises(ValueError, match="use 'cpp' or 'auto'"):
        functional.resolve_backend("triton", CPU)
    with pytest.raises(ValueError, match="use 'triton' or 'auto'"):
        functional.resolve_backend("cpp", torch.device("cuda"))
    monkeypatch.setattr(ops, "_why_missing", "not built; install g++")
    assert functional.resolve_backend("auto", CPU) == "reference"
    x, weights, *_ = problem((1, 4, 1, 1))
    with pytest.raises(RuntimeError, match="install g"):
        functional.enhance(x, *weights, mask_axis="spatial", backend="cpp")


@needs_extension
def test_auto_is_the_fused_backend_of_the_device():
    assert functional.resolve_backend("auto", CPU) == "cpp"
