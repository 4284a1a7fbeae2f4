"""The operators of ``torch.ops.ltvr``: schemas, fake implementations, and the compiled extension.

The only file that touches ``torch.library``. CPU implementations are C++ (``csrc/``), registered
when the compiled extension is loaded here. Without it ``import ltvr`` still works, and the first
call of an operator that needs it says what is missing and how to get it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from ltvr.afa.operands import CHECKS, statistics_dtype
from ltvr.layout import channels_last, empty_features, width

__all__ = [
    "ABSORBED",
    "FUSED",
    "Kernels",
    "bf16_units_pay",
    "extension_available",
    "kernels",
    "plan_synthesis",
    "require_extension",
    "require_triton",
]

BUILD_COMMAND = "pip install --no-build-isolation -e ."

# ---- Schemas -----------------------------------------------------------------------------------

SCHEMAS = {
    "plan_synthesis": (
        "(Tensor labels, float gamma, float alpha, int seed, int step, int groups, "
        "Tensor? class_weights=None, Tensor? donor_weights=None) -> ("
        "Tensor class_index, Tensor variation_index, Tensor generated_labels, "
        "Tensor class_offsets, Tensor class_rows, "
        "Tensor variation_offsets, Tensor variation_rows)"
    ),
    "channel_attention": "(Tensor q, Tensor k, Tensor? v) -> (Tensor out, Tensor lse)",
    "channel_attention_backward": (
        "(Tensor d_out, Tensor q, Tensor k, Tensor? v, Tensor out, Tensor lse) -> "
        "(Tensor d_q, Tensor d_k, Tensor d_v)"
    ),
    "split_and_generate": (
        "(Tensor? x, Tensor x_att, Tensor s, Tensor v, Tensor class_index, "
        "Tensor variation_index, bool spatial, float gain, bool addition) -> Tensor"
    ),
    "split_and_generate_backward": (
        "(Tensor d_features, Tensor x_att, Tensor s, Tensor v, Tensor class_offsets, "
        "Tensor class_rows, Tensor variation_offsets, Tensor variation_rows, "
        "bool spatial, float gain, bool addition) -> (Tensor d_x_att, Tensor d_s, Tensor d_v)"
    ),
    "augment": (
        "(Tensor x, Tensor w_q, Tensor w_k, Tensor w_v, Tensor w_1, Tensor w_2, "
        "Tensor class_index, Tensor variation_index, "
        "bool spatial, float gain, bool residual, bool addition) -> ("
        "Tensor features, Tensor copy, Tensor q, Tensor out, Tensor lse, "
        "Tensor s, Tensor hidden, Tensor z, Tensor a, Tensor w)"
    ),
    "augment_backward": (
        "(Tensor d_features, Tensor x, Tensor q, Tensor out, Tensor lse, "
        "Tensor s, Tensor hidden, Tensor z, Tensor a, Tensor w, "
        "Tensor w_q, Tensor w_k, Tensor w_1, Tensor w_2, Tensor class_offsets, "
        "Tensor class_rows, Tensor variation_offsets, Tensor variation_rows, "
        "bool spatial, float gain, bool residual, bool addition, bool x_last) -> ("
        "Tensor d_x, Tensor d_w_q, Tensor d_w_k, Tensor d_w_v, Tensor d_w_1, Tensor d_w_2)"
    ),
}

# The C++ operators take the bf16 units of a CPU where these are faster. These take them on any CPU,
# or what stands in for them, for the tests.
_OF_CPP_ALONE = {
    "_channel_attention_on_bf16_units": SCHEMAS["channel_attention"],
    "_channel_attention_backward_on_bf16_units": SCHEMAS["channel_attention_backward"],
    "_bf16_units_pay": "() -> bool",
}

FUSED = (
    "channel_attention",
    "channel_attention_backward",
    "split_and_generate",
    "split_and_generate_backward",
)
"""The operators of every fused backend."""
ABSORBED = ("augment", "augment_backward")
"""The operators of Triton alone."""


# ---- The compiled extension --------------------------------------------------------------------


def _load_extension(folder: Path) -> str | None:
    """Load ``_C_*.so`` from ``folder``; return None, or the reason why there is no extension.

    There is one for each instruction set; of those that were built, and that this machine runs, the
    best is taken.
    """
    capability = torch.backends.cpu.get_cpu_capability().lower()
    sets = dict.fromkeys([capability, *(["avx2"] if capability == "avx512" else []), "default"])
    paths = [folder / f"_C_{name}{suffix}" for name in sets for suffix in EXTENSION_SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return (
            f"the C++ extension of ltvr is not built (no {paths[0].name} in {folder}). "
            "Most likely there was no C++ compiler when ltvr was installed. "
            f"Install g++, then run `{BUILD_COMMAND}` in the repository."
        )
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        built = re.search(rb"ltvr built for torch ([^\0]+)", path.read_bytes())
        built_for = f"torch {built[1].decode()}" if built else "an unknown torch"
        return (
            f"the C++ extension of ltvr does not load: {path} was built for {built_for}, and this "
            f"is torch {torch.__version__} ({error}). "
            f"Run `{BUILD_COMMAND}` in the repository to build it again."
        )
    return None


def _define(schemas: dict[str, str]) -> None:
    """Define the operators, whose implementations in C++ are loaded.

    In the other order an extension that has an operator with other arguments would end the process.

    Raises:
        RuntimeError: the extension is of other sources.
    """
    for name, schema in schemas.items():
        try:
            torch.library.define(f"ltvr::{name}", schema)
        except RuntimeError as error:
            raise RuntimeError(_of_other_sources(name)) from error


def _lacks(operator: str) -> bool:
    """Whether the extension that is loaded, if there is one, lacks an operator."""
    name = f"ltvr::{operator}"
    return not torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CPU")


def _of_other_sources(operator: str) -> str:
    return (
        f"the C++ extension of ltvr was built from other sources: its operator {operator} is "
        f"missing or takes other arguments. Run `{BUILD_COMMAND}` in the repository to build it "
        "again."
    )


_why_missing = _load_extension(Path(__file__).parents[1])
_define(SCHEMAS | _OF_CPP_ALONE)
_missing = [name for name in ("plan_synthesis", *FUSED, *_OF_CPP_ALONE) if _lacks(name)]
if _missing and _why_missing is None:
    _why_missing = _of_other_sources(_missing[0])


def extension_available() -> bool:
    """Whether the C++ extension is loaded."""
    return _why_missing is None


def require_extension() -> None:
    """Raise a RuntimeError that says what to do if the C++ extension is not loaded."""
    if _why_missing is not None:
        raise RuntimeError(_why_missing)


def _raise_missing(*_: object) -> NoReturn:
    require_extension()
    raise AssertionError("unreachable: registered only where the extension is missing")


for _name in _missing:
    torch.library.impl(f"ltvr::{_name}", "cpu", _raise_missing)


def bf16_units_pay() -> bool:
    """Whether bfloat16 at 16 positions or more goes to the bf16 units of this CPU (``csrc/``).

    Measured in the first call. It decides the bits of bfloat16, so a run records it.
    """
    return extension_available() and bool(torch.ops.ltvr._bf16_units_pay())


# ---- The backends of the fused operators -------------------------------------------------------


def require_triton(device: torch.device) -> None:
    """Raise, saying what to do, if the Triton kernels do not run on ``device``.

    Raises:
        RuntimeError: Triton is not installed.
        ValueError: a device without a GPU, outside Triton's interpreter.
    """
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("backend = 'triton': triton is not installed; run `pip install triton`")
    if device.type != "cuda" and not _interpreted():
        raise ValueError(
            f"backend = 'triton' on {device}: it runs on CUDA; use 'cpp' or 'auto' "
            "(or set TRITON_INTERPRET=1 to debug the kernels, slowly)"
        )


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


class Kernels(NamedTuple):
    """What a fused backend provides."""

    operators: Any
    """The operators of ``FUSED``, as attributes; of ``ABSORBED`` too, if it ``absorbs``."""
    absorbs: bool
    """Whether it has the absorbed form as one operator, ``augment``, with X as keys and values."""


def kernels(backend: str, device: torch.device) -> Kernels:
    """Return the fused operators of ``cpp`` or ``triton``.

    On a GPU and for C++ they are the registered operators; Triton under its interpreter takes CPU
    tensors, which the dispatcher would hand to C++. A CPU gains nothing from loading one operand
    instead of two, so C++ has no absorbed form.
    """
    if backend == "triton" and device.type != "cuda":
        return Kernels(_triton_kernels(), absorbs=True)
    return Kernels(torch.ops.ltvr, absorbs=backend == "triton")


@functools.cache
def _triton_kernels() -> ModuleType:
    """Import them where they are first needed: Triton may be missing, and takes long to load."""
    return importlib.import_module("ltvr.kernels")


def _triton(name: str) -> Callable[..., Any]:
    check = CHECKS[name]

    def call(*arguments: Any) -> Any:
        check(*arguments)
        # Triton launches on the current device. The tensors are on one, as was checked.
        with torch.cuda.device_of(next(a for a in arguments if isinstance(a, Tensor))):
            return getattr(_triton_kernels(), name)(*arguments)

    return call


for _name in (*FUSED, *ABSORBED):
    torch.library.impl(f"ltvr::{_name}", "cuda", _triton(_name))


# ---- plan_synthesis ----------------------------------------------------------------------------


@torch.library.register_fake("ltvr::plan_synthesis")
def _plan_synthesis_fake(
    labels: Tensor,
    gamma: float,
    alpha: float,
    seed: int,
    step: int,
    groups: int,
    class_weights: Tensor | None = None,
    donor_weights: Tensor | None = None,
) -> tuple[Tensor, ...]:
    batch = labels.shape[0]
    generated = torch.library.get_ctx().new_dynamic_size()
    sizes = (generated, generated, generated, batch + 1, generated, batch + 1, generated)
    return tuple(labels.new_empty(size) for size in sizes)


def plan_synthesis(
    labels: Tensor,
    gamma: float,
    alpha: float,
    seed: int,
    step: int,
    groups: int,
    class_weights: Tensor | None = None,
    donor_weights: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Call the operator; ``ltvr.afa.planning.plan_synthesis`` is the documented entry."""
    plan: tuple[Tensor, ...] = torch.ops.ltvr.plan_synthesis.default(
        labels, gamma, alpha, seed, step, groups, class_weights, donor_weights
    )
    return plan


# ---- channel_attention -------------------------------------------------------------------------
#
# out = softmax(q k^T) v over the D keys, the scale already in q; lse [B, D] is the row log-sum-exp
# in float32 (float64 for float64). All other tensors [B, D, N], contiguous, one dtype. Without v
# the keys are the values too (the absorbed form): d_k is the gradient of both, and d_v is empty.
# Scores beyond 1e9, of training that has diverged, may give infinities on a GPU: its exponents are
# made by a multiplication and an addition at once, whose rounding then exceeds what exp takes.


@torch.library.register_fake("ltvr::channel_attention")
def _channel_attention_fake(q: Tensor, k: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
    CHECKS["channel_attention"](q, k, v)
    return k.new_empty(k.shape), q.new_empty(q.shape[:2], dtype=statistics_dtype(q))


@torch.library.register_fake("ltvr::channel_attention_backward")
def _channel_attention_backward_fake(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor | None, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    CHECKS["channel_attention_backward"](d_out, q, k, v, out, lse)
    d_v = k.new_empty(0) if v is None else v.new_empty(v.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), d_v


# ---- split_and_generate ------------------------------------------------------------------------
#
# ``ltvr.afa.reference.split_and_generate`` with s [B, D] in float32 (float64 for float64) and the
# options as flags; without x, addition has to be set. The backward takes the plan's inverse index
# and gathers, in a fixed order: d_x_att and d_v [B, D, N], d_s [B, D] in the dtype of s.
# ``d_x_att`` leaves out the path through s, ``d_v`` the path through the attention.


@torch.library.register_fake("ltvr::split_and_generate")
def _split_and_generate_fake(*arguments: Any) -> Tensor:
    CHECKS["split_and_generate"](*arguments)
    v: Tensor = arguments[3]
    rows = arguments[4].shape[0]
    return v.new_empty((v.shape[0] + rows, *v.shape[1:]))


@torch.library.register_fake("ltvr::split_and_generate_backward")
def _split_and_generate_backward_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    CHECKS["split_and_generate_backward"](*arguments)
    _, x_att, s, v, *_ = arguments
    return x_att.new_empty(x_att.shape), s.new_empty(s.shape), v.new_empty(v.shape)


# ---- augment -----------------------------------------------------------------------------------
#
# ``ltvr.afa.reference.augment`` with linear projections, on a GPU: x [B, D, N], dense as [D, N] or
# as [N, D] in memory, and so are features and d_x. Of what the backward takes, ``copy`` is x as
# [D, width] (empty where x is that already), a = W_Q W_K^T / sqrt(N) and w = W_V [width, width] in
# the dtype of x; q = x a and out = softmax(q x^T) x are [B, D, width], lse, s and z [B, D], and
# hidden = relu(W_1 z). Behind the N positions of a width (``ltvr/layout.py``) are zeros.


@torch.library.register_fake("ltvr::augment")
def _augment_fake(*arguments: Any) -> tuple[Tensor, ...]:
    CHECKS["augment"](*arguments)
    x, _, _, _, w_1, _, class_index, *_ = arguments
    batch, channels, positions = x.shape
    columns = width(x)
    sizes = (batch + class_index.shape[0], channels, positions)
    features = empty_features(x, sizes, channels_last(x))
    wide = (batch, channels, columns)
    copy = x.new_empty(0 if x.is_contiguous() and columns == positions else wide)
    q, out = x.new_empty(wide), x.new_empty(wide)
    lse, s, z = (x.new_empty((batch, channels), dtype=statistics_dtype(x)) for _ in range(3))
    hidden = s.new_empty(batch, w_1.shape[0])
    a, w = x.new_empty(columns, columns), x.new_empty(columns, columns)
    return features, copy, q, out, lse, s, hidden, z, a, w


@torch.library.register_fake("ltvr::augment_backward")
def _augment_backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    CHECKS["augment_backward"](*arguments)
    d_features, x, s, w_1, w_2, last = *(arguments[i] for i in (0, 1, 5, 12, 13)), arguments[-1]
    sizes = (x.shape[0], *d_features.shape[1:])
    square = 3 * [(sizes[2], sizes[2])]
    weights = (s.new_empty(shape) for shape in (*square, w_1.shape, w_2.shape))
    return empty_features(x, sizes, last), *weights
