"""The fused backends against the reference in float64: values, every gradient, and their rules."""

import itertools
import platform
from types import SimpleNamespace

import pytest
import torch
from operators import (
    BACKENDS,
    CPU,
    DEVICE,
    INTERPRETED,
    nan_in_uninitialised_memory,  # noqa: F401 (pytest uses it)
    needs_extension,
    needs_triton,
    problem,
    relative_rms,
)

from ltvr.afa import functional, ops, reference

NAMES = ("features", "x", "w_q", "w_k", "w_v", "w_1", "w_2")
# The C++ operators by the bf16 units, or by what stands in for them on a CPU without.
BF16_UNITS = ops.Kernels(
    SimpleNamespace(
        **{name: getattr(torch.ops.ltvr, name) for name in ops.FUSED}
        | {
            name: getattr(torch.ops.ltvr, f"_{name}_on_bf16_units")
            for name in ("channel_attention", "channel_attention_backward")
        }
    ),
    absorbs=False,
)


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def gradients(x, weights, plan, dtype, backend, device=CPU, **options):
    """Features and all gradients, of a loss that weighs every element differently."""
    x, *weights = (t.to(device, dtype).detach().requires_grad_() for t in (x, *weights))
    plan = plan.to(device)
    out = functional.augment(x, *weights, plan, backend=backend, **options)
    g = torch.Generator().manual_seed(9)
    loss = torch.randn(out.shape, generator=g, dtype=torch.float64).to(device, dtype)
    return out.detach(), *torch.autograd.grad(out, (x, *weights), loss)


def check(shape, dtype, backend, layout=lambda x: x, gamma=1.0, **options):
    options = {"mask_axis": "spatial", "device": DEVICE[backend], **options}
    x, weights, *rest = problem(shape, options.get("projection", "linear"), gamma)
    rounded = [layout(x).to(dtype), [w.to(dtype) for w in weights], *rest]
    oracle = gradients(*rounded, torch.float64, "reference", **options)
    eager = gradients(*rounded, dtype, "reference", **options)
    fused = gradients(*rounded, dtype, backend, **options)
    for name, got, low, exact in zip(NAMES, fused, eager, oracle, strict=True):
        assert got.dtype == low.dtype and got.shape == low.shape
        # Products in three TF32 or bfloat16 ones leave out what is below the last bits of float32.
        small = 8 if dtype == torch.float32 else 4
        limit = 2 * relative_rms(low, exact) + small * torch.finfo(dtype).eps
        assert relative_rms(got, exact) <= limit, name


CASES = [
    ((5, 40, 2, 2), {"mask_gain": 2.5}),
    ((3, 33, 4, 4), {"mask_axis": "channel", "mask_gain": 3.0}),
    ((2, 50, 7, 7), {"attention_addition": False}),
    ((1, 70, 8, 8), {}),
    ((2, 24, 14, 14), {"mask_axis": "channel"}),
    ((4, 17, 3, 5), {"gamma": 0.0}),
    ((1, 20, 12, 12), {"mask_gain": 2.0}),
    ((1, 18, 16, 16), {}),
    ((3, 19, 1, 1), {"mask_axis": "channel", "attention_addition": False}),
    ((4, 36, 3, 3), {"projection": "conv1x1", "mask_axis": "channel"}),
    ((2, 53, 4, 4), {"projection": "conv1x1", "mask_gain": 0.5}),
]


@pytest.mark.parametrize(("shape", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_as_near_to_float64_as_the_reference(shape, options, dtype, backend):
    if backend == "triton" and dtype == torch.bfloat16 and INTERPRETED:
        pytest.skip("bf16 is wrong in Triton's interpreter")
    check(shape, dtype, backend, **options)


@needs_extension
@pytest.mark.parametrize(("shape", "options"), CASES)
def test_bf16_units_are_as_near(shape, options, monkeypatch):
    monkeypatch.setattr(ops, "kernels", lambda *_: BF16_UNITS)
    check(shape, torch.bfloat16, "cpp", **options)


@needs_extension
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 1030, 2, 2), {}),  # several blocks of rows and keys, the last of them short
        ((1, 300, 14, 14), {"mask_axis": "channel"}),
        ((9, 200, 4, 4), {"projection": "conv1x1"}),
    ],
)
def test_more_than_one_block(shape, options):
    check(shape, torch.float32, "cpp", **options)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.cat([x, x], dim=1)[:, ::2],
    ],
    ids=["channels_last", "transposed", "strided"],
)
def test_any_layout(layout, backend):
    check((3, 20, 2, 4), torch.float32, backend, layout=layout)


@needs_triton
@pytest.mark.parametrize("shape", [(3, 20, 2, 4), (1, 17, 9, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_channels_last_goes_in_and_comes_out(shape, dtype):
    """The same bits as of contiguous features, and features and gradient lie in memory as x."""
    device = DEVICE["triton"]
    x, weights, plan = problem(shape)
    plan = plan.to(device)
    weights = [w.to(device, dtype) for w in weights]
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        leaf = x.to(device, dtype).contiguous(memory_format=memory_format).requires_grad_()
        out = functional.augment(leaf, *weights, plan, mask_axis="spatial", backend="triton")
        loss = out.detach().sin().contiguous(memory_format=memory_format)
        (d_x,) = torch.autograd.grad(out, leaf, loss)
        assert out.is_contiguous(memory_format=memory_format)
        assert d_x.is_contiguous(memory_format=memory_format)
        results.append((out, d_x))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_triton
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("dtype", "positions"), itertools.product((torch.float16, torch.float32), (9, 81))
)
def test_augment_is_what_its_fake_says(last, dtype, positions):
    """Shapes, dtypes and strides: what torch.compile plans memory by."""
    device = DEVICE["triton"]
    x, weights, plan = problem((3, 20, 1, positions))
    x = x.flatten(2).to(device, dtype)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
    weights, plan = [w.to(device, torch.float32) for w in weights], plan.to(device)
    kernels = ops.kernels("triton", device).operators
    flags = (True, 1.0, True, True)
    forward = (x, *weights, plan.class_index, plan.variation_index, *flags)
    features, copy, *kept = kernels.augment(*forward)
    w_q, w_k, _, w_1, w_2 = weights
    kept_x = copy if copy.dim() == 3 else x
    backward = (features, kept_x, *kept, w_q, w_k, w_1, w_2, *plan[3:], *flags, last)
    for name, arguments, found in (
        ("augment", forward, (features, copy, *kept)),
        ("augment_backward", backward, kernels.augment_backward(*backward)),
    ):
        # Contiguous or not, memory of the same layout: tensors of the device "meta" are fake.
        meta = (
            torch.empty_strided(a.shape, a.stride(), dtype=a.dtype, device="meta")
            if isinstance(a, torch.Tensor)
            else a
            for a in arguments
        )
        for real, fake in zip(found, getattr(torch.ops.ltvr, name)(*meta), strict=True):
            assert (real.shape, real.dtype, real.stride()) == (
                fake.shape,
                fake.dtype,
                fake.stride(),
            )


@pytest.mark.parametrize("wrong", ["w_q", "w_1", "w_2", "variation_index", "gain", "addition"])
def test_augment_refuses_what_does_not_fit(wrong):
    shapes = {"x": (2, 8, 4), "w_q": (4, 4), "w_k": (4, 4), "w_v": (4, 4), "w_1": (2, 8)}
    arguments = {n: torch.zeros(s, device="meta") for n, s in {**shapes, "w_2": (8, 2)}.items()}
    for name in ("class_index", "variation_index"):
        arguments[name] = torch.zeros(3, dtype=torch.int64, device="meta")
    arguments |= {"spatial": True, "gain": 1.0, "residual": False, "addition": True}
    torch.ops.ltvr.augment(**arguments)
    values = {"gain": -1.0, "addition": False}
    arguments[wrong] = values[wrong] if wrong in values else arguments[wrong][..., :-1]
    with pytest.raises(ValueError, match=wrong):
        torch.ops.ltvr.augment(**arguments)


@needs_extension
@pytest.mark.parametrize("mask_axis", ["spatial", "channel"])
@pytest.mark.parametrize("projection", ["linear", "conv1x1"])
def test_gradcheck(projection, mask_axis):
    x, weights, plan = problem((3, 5, 1, 3), projection)

    def features(x, *weights):
        options = {"projection": projection, "mask_axis": mask_axis, "backend": "cpp"}
        return functional.augment(x, *weights, plan, mask_gain=2.0, **options)

    assert torch.autograd.gradcheck(features, [t.requires_grad_() for t in (x, *weights)])


def test_decompose_and_enhance(backend):
    x, weights, *_ = problem((2, 20, 3, 3))
    x, *weights = (t.to(DEVICE[backend], torch.float32) for t in (x, *weights))
    expected = reference.decompose(x, *weights, mask_axis="channel", mask_gain=2.0)
    options = {"mask_axis": "channel", "mask_gain": 2.0, "backend": backend}
    got = functional.decompose(x, *weights, **options)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(functional.enhance(x, *weights, **options), expected[0])


# ---- The operators on their own ----------------------------------------------------------------


def attention_arguments(dtype=torch.float32, shared=True, scale=1.0, shape=(2, 70, 9)):
    g = torch.Generator().manual_seed(4)
    q, k, v, d_out = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(4))
    return [t.to(dtype) for t in (q * scale, k, v, d_out)][:2] + [
        None if shared else v.to(dtype),
        d_out.to(dtype),
    ]


def to(device, tensors):
    return [None if t is None else t.to(device) for t in tensors]


def attention(operators, q, k, v, d_out):
    out, lse = operators.channel_attention(q, k, v)
    return out, lse, *operators.channel_attention_backward(d_out, q, k, v, out, lse)


def eager_attention(dtype, *arguments):
    """What ``attention`` returns, d_v only if there is a v."""
    q, k, v, d_out = (None if t is None else t.to(dtype).requires_grad_() for t in arguments)
    scores = q @ k.transpose(1, 2)
    out = torch.softmax(scores, 2) @ (k if v is None else v)
    inputs = [t for t in (q, k, v) if t is not None]
    results = out, torch.logsumexp(scores, 2), *torch.autograd.grad(out, inputs, d_out)
    return [t.detach() for t in results]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("scale", "tolerance"), [(0.3, 2e-6), (40.0, 1e-4)])
def test_attention(shared, scale, tolerance, backend):
    arguments = to(DEVICE[backend], attention_arguments(shared=shared, scale=scale))
    got = attention(ops.kernels(backend, DEVICE[backend]).operators, *arguments)
    for a, b in zip(got, eager_attention(torch.float64, *arguments), strict=False):
        assert relative_rms(a, b) < tolerance
    assert (got[4].numel() == 0) == shared


@needs_extension
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(2, 33, 4), (1, 150, 49), (1, 300, 196), (3, 1, 1), (10, 65, 7), (2, 560, 3)],
    ids=str,
)
def test_attention_by_bf16_units(shared, shape):
    arguments = attention_arguments(torch.bfloat16, shared, scale=0.3, shape=shape)
    got = attention(BF16_UNITS.operators, *arguments)
    eager = eager_attention(torch.bfloat16, *arguments)
    exact = eager_attention(torch.float64, *arguments)
    for a, low, b in zip(got, eager, exact, strict=False):
        limit = 2 * relative_rms(low, b) + 4 * torch.finfo(torch.bfloat16).eps
        assert relative_rms(a, b) <= limit


@needs_extension
@pytest.mark.parametrize("positions", [9, 16])
def test_bf16_takes_the_units_where_they_pay(positions):
    """Elsewhere the float32 tiles, whose results are only rounded at the end."""
    q, k, v, d_out = attention_arguments(torch.bfloat16, False, shape=(2, 70, positions))
    out, lse, *gradients = attention(torch.ops.ltvr, q, k, v, d_out)
    if positions >= 16 and ops.bf16_units_pay():
        expected = attention(BF16_UNITS.operators, q, k, v, d_out)
    else:
        q, k, v, d_out = (t.float() for t in (q, k, v, d_out))
        exact = torch.ops.ltvr.channel_attention(q, k, v)
        backward = torch.ops.ltvr.channel_attention_backward
        expected = *exact, *backward(d_out, q, k, v, out.float(), lse)
    for a, b in zip((out, lse, *gradients), expected, strict=True):
        assert torch.equal(a, b.to(a.dtype))


@pytest.mark.parametrize("size", [1e3, 1e15])
def test_large_scores_stay_finite(size, backend):
    """Far from the range of exp in float32, on both sides."""
    if backend == "triton" and size > 1e3 and not INTERPRETED:
        pytest.skip("a GPU multiplies and adds at once: up to scores of 1e9 (ltvr/afa/ops.py)")
    q, k, _, d_out = to(DEVICE[backend], attention_arguments(scale=size))
    q[:, ::2] = -q[:, ::2].abs()
    arguments = q, k + 3, None, d_out
    results = [*attention(ops.kernels(backend, DEVICE[backend]).operators, *arguments)]
    if backend == "cpp":
        half = (t if t is None else t.bfloat16() for t in arguments)
        results += attention(BF16_UNITS.operators, *half)
    assert all(t.isfinite().all() for t in results)


@needs_extension
@pytest.mark.parametrize("positions", [1, 2, 4, 8])
def test_huge_scores_are_rounded_to_probabilities(positions):
    """Of diverged training: a score's rounding is larger than any exponent."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 96, positions, generator=g) for _ in range(3))
    out, lse = torch.ops.ltvr.channel_attention(1e5 * q, 1e5 * k, v)
    assert lse.isfinite().all() and out.isfinite().all()
    assert out.abs().max() <= 1.01 * v.abs().max()


@needs_extension
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no other CPU minds them")
def test_sharp_attention_leaves_no_subnormal_numbers():
    """They would make every product that reads the gradients a hundred times as long, on x86."""
    q, k, v, d_out = attention_arguments(shared=False, scale=20.0, shape=(2, 70, 64))
    smallest = torch.finfo(torch.float32).tiny
    found = []
    for dtype in (torch.float64, torch.float32):
        arguments = (t.to(dtype) for t in (q, k, v, 1e-3 * d_out))
        gradients = torch.cat(attention(torch.ops.ltvr, *arguments)[2:])
        found.append(int(((gradients != 0) & (gradients.abs() < smallest)).sum()))
    # What sums of numbers above them give is left: a few.
    assert found[0] > 100 and found[1] < found[0] / 10
    assert torch.tensor([smallest]).div(2).item() > 0  # outside them they are what they were


@needs_extension
def test_second_derivatives_are_refused():
    x, weights, plan = problem((3, 8, 2, 2))
    x = x.requires_grad_()
    out = functional.augment(x, *weights, plan, mask_axis="spatial", backend="cpp")
    (d_x,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        d_x.sum().backward()


@needs_extension
def test_no_samples():
    x, weights, plan = problem((0, 8, 2, 2))
    for backend in ("reference", "cpp"):
        results = gradients(x, weights, plan, torch.float32, backend, mask_axis="spatial")
        assert results[0].shape == (0, 8, 2, 2) and not any(t.any() for t in results)


def split_arguments(dtype=torch.float32):
    x, _, plan = problem((4, 21, 1, 5))
    x_att, v = x.flatten(2).flip(0).to(dtype), x.flatten(2).flip(1).to(dtype)
    s = x[..., 0, 0].sigmoid().to(torch.promote_types(dtype, torch.float32))
    index = plan.class_index, plan.variation_index
    inverse = (
        plan.class_offsets,
        plan.class_rows,
        plan.variation_offsets,
        plan.variation_rows,
    )
    return x.flatten(2).to(dtype), (x_att, s, v), index, inverse


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_opcheck(dtype):
    ltvr = torch.ops.ltvr
    for shared in (True, False):
        q, k, v, d_out = attention_arguments(dtype, shared)
        torch.library.opcheck(ltvr.channel_attention.default, (q, k, v))
        out, lse = ltvr.channel_attention(q, k, v)
        arguments = (d_out, q, k, v, out, lse)
        torch.library.opcheck(ltvr.channel_attention_backward.default, arguments)
    x, tensors, index, inverse = split_arguments(dtype)
    for first, spatial in ((x, True), (None, False)):
        arguments = (first, *tensors, *index, spatial, 2.0, True)
        torch.library.opcheck(ltvr.split_and_generate.default, arguments)
        d_features = torch.ones_like(ltvr.split_and_generate(*arguments))
        arguments = (d_features, *tensors, *inverse, spatial, 2.0, True)
        torch.library.opcheck(ltvr.split_and_generate_backward.default, arguments)


@needs_extension
def test_same_bits_again_and_with_any_number_of_threads():
    def run():
        results = []
        for shape in ((3, 200, 7), (1, 500, 4)):
            for operators, dtype in (
                (torch.ops.ltvr, torch.float32),
                (torch.ops.ltvr, torch.bfloat16),
                (BF16_UNITS.operators, torch.bfloat16),
            ):
                results += attention(operators, *attention_arguments(dtype, False, shape=shape))
        x, tensors, index, inverse = split_arguments()
        for spatial in (True, False):
            features = torch.ops.ltvr.split_and_generate(x, *tensors, *index, spatial, 2.0, True)
            d_features = features.cos()
            backward = torch.ops.ltvr.split_and_generate_backward
            results += features, *backward(d_features, *tensors, *inverse, spatial, 2.0, True)
        return results

    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 1, 2, 3):
            torch.set_num_threads(number)
            results.append(run())
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
