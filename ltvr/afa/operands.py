"""The shapes and dtypes that the fused operators take, for Triton and for fake tensors.

The C++ operators check the same and the numbers of the indices as well (``csrc/cpu/checks.h``). On
a GPU the numbers are not read: the host would have to wait for them. A plan has been checked before
it left the host (``SynthesisPlan.to``); operators that are called with other indices there read
outside their tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ltvr.afa.checks import (
    FLOATING,
    MOST_GAIN,
    check_factor,
    check_features,
    check_real_rows,
    check_tensor,
)
from ltvr.layout import width

__all__ = ["CHECKS", "statistics_dtype"]


def statistics_dtype(x: Tensor) -> torch.dtype:
    """The dtype of sums and statistics of ``x``: float32, or float64 of float64."""
    return torch.promote_types(x.dtype, torch.float32)


def _check_attention(q: Tensor, k: Tensor, v: Tensor | None) -> None:
    check_features("q", q, "B, D, N")
    for name, other in (("k", k), ("v", v)):
        if other is not None:
            check_tensor(name, other, q.shape, q.dtype, q.device)


def _check_attention_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor | None, out: Tensor, lse: Tensor
) -> None:
    _check_attention(q, k, v)
    check_tensor("d_out", d_out, q.shape, q.dtype, q.device)
    check_tensor("out", out, q.shape, q.dtype, q.device)
    check_tensor("lse", lse, q.shape[:2], statistics_dtype(q), q.device)


def _check_parts(
    x_att: Tensor, s: Tensor, v: Tensor, gain: float, names: tuple[str, str] = ("x_att", "v")
) -> None:
    check_features(names[1], v, "B, D, N")
    check_tensor(names[0], x_att, v.shape, v.dtype, v.device)
    check_tensor("s", s, v.shape[:2], statistics_dtype(v), v.device)
    check_factor("gain", gain, "on the mask", MOST_GAIN)


def _check_split(
    x: Tensor | None,
    x_att: Tensor,
    s: Tensor,
    v: Tensor,
    class_index: Tensor,
    variation_index: Tensor,
    spatial: bool,
    gain: float,
    addition: bool,
) -> None:
    _check_parts(x_att, s, v, gain)
    check_real_rows("addition", addition, x is not None)
    if x is not None:
        check_tensor("x", x, v.shape, v.dtype, v.device)
    rows = class_index.numel()
    check_tensor("class_index", class_index, (rows,), torch.int64, v.device)
    check_tensor("variation_index", variation_index, (rows,), torch.int64, v.device)


def _check_split_backward(
    d_features: Tensor,
    x_att: Tensor,
    s: Tensor,
    v: Tensor,
    class_offsets: Tensor,
    class_rows: Tensor,
    variation_offsets: Tensor,
    variation_rows: Tensor,
    spatial: bool,
    gain: float,
    addition: bool,
) -> None:
    _check_parts(x_att, s, v, gain)
    _check_inverse(d_features, v, class_offsets, class_rows, variation_offsets, variation_rows)


def _check_inverse(
    d_features: Tensor,
    v: Tensor,
    class_offsets: Tensor,
    class_rows: Tensor,
    variation_offsets: Tensor,
    variation_rows: Tensor,
) -> None:
    batch, rows = v.shape[0], class_rows.numel()
    check_tensor("d_features", d_features, (batch + rows, *v.shape[1:]), v.dtype, v.device)
    check_tensor("class_offsets", class_offsets, (batch + 1,), torch.int64, v.device)
    check_tensor("class_rows", class_rows, (rows,), torch.int64, v.device)
    check_tensor("variation_offsets", variation_offsets, (batch + 1,), torch.int64, v.device)
    check_tensor("variation_rows", variation_rows, (rows,), torch.int64, v.device)


def _check_augment(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    class_index: Tensor,
    variation_index: Tensor,
    spatial: bool,
    gain: float,
    residual: bool,
    addition: bool,
) -> None:
    check_features("x", x, "B, D, N")
    positions = x.shape[2]
    for name, w in (("w_q", w_q), ("w_k", w_k), ("w_v", w_v)):
        check_tensor(name, w, (positions, positions), FLOATING, x.device)
    _check_bottleneck(x, w_1, w_2)
    check_factor("gain", gain, "on the mask", MOST_GAIN)
    check_real_rows("addition", addition, residual)
    rows = class_index.numel()
    check_tensor("class_index", class_index, (rows,), torch.int64, x.device)
    check_tensor("variation_index", variation_index, (rows,), torch.int64, x.device)


def _check_bottleneck(x: Tensor, w_1: Tensor, w_2: Tensor) -> None:
    channels = x.shape[1]
    hidden = w_1.numel() // channels
    check_tensor("w_1", w_1, (hidden, channels), FLOATING, x.device)
    check_tensor("w_2", w_2, (channels, hidden), FLOATING, x.device)


def _check_augment_backward(
    d_features: Tensor,
    x: Tensor,
    q: Tensor,
    out: Tensor,
    lse: Tensor,
    s: Tensor,
    hidden: Tensor,
    z: Tensor,
    a: Tensor,
    w: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    class_offsets: Tensor,
    class_rows: Tensor,
    variation_offsets: Tensor,
    variation_rows: Tensor,
    spatial: bool,
    gain: float,
    residual: bool,
    addition: bool,
    x_last: bool,
) -> None:
    check_features("d_features", d_features, "B+G, D, N")
    check_features("x", x, "B, D, width")
    wide, positions, columns = statistics_dtype(x), d_features.shape[2], width(d_features)
    check_tensor("x", x, (*x.shape[:2], columns), d_features.dtype, d_features.device)
    _check_parts(out, s, x, gain, ("out", "x"))
    check_real_rows("addition", addition, residual)
    _check_inverse(
        d_features,
        x[..., :positions],
        class_offsets,
        class_rows,
        variation_offsets,
        variation_rows,
    )
    check_tensor("q", q, x.shape, x.dtype, x.device)
    check_tensor("lse", lse, x.shape[:2], wide, x.device)
    check_tensor("z", z, x.shape[:2], wide, x.device)
    _check_bottleneck(x, w_1, w_2)
    check_tensor("hidden", hidden, (x.shape[0], w_1.shape[0]), wide, x.device)
    for name, t, size, dtypes in (
        ("a", a, columns, x.dtype),
        ("w", w, columns, x.dtype),
        ("w_q", w_q, positions, FLOATING),
        ("w_k", w_k, positions, FLOATING),
    ):
        check_tensor(name, t, (size, size), dtypes, x.device)


CHECKS: dict[str, Callable[..., None]] = {
    "channel_attention": _check_attention,
    "channel_attention_backward": _check_attention_backward,
    "split_and_generate": _check_split,
    "split_and_generate_backward": _check_split_backward,
    "augment": _check_augment,
    "augment_backward": _check_augment_backward,
}
"""By the name of the operator; arguments as in its schema (``ltvr/afa/ops.py``)."""
