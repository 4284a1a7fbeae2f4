"""The arguments of the equations: what they are called, and the one place that checks them.

Every backend takes the same arguments, and refuses the same ones in the same words.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ltvr.afa.checks import (
    FLOATING,
    MOST_GAIN,
    check_choice,
    check_factor,
    check_features,
    check_flag,
    check_tensor,
)
from ltvr.afa.plan import SynthesisPlan, check_fit

__all__ = ["MaskAxis", "Projection", "check_arguments", "check_mask"]

Projection = Literal["linear", "conv1x1"]
MaskAxis = Literal["spatial", "channel"]


def check_arguments(
    x: Tensor,
    weights: tuple[Tensor, ...],
    plan: SynthesisPlan | None = None,
    *,
    mask_axis: MaskAxis,
    mask_gain: float,
    projection: Projection,
    attention_addition: bool = True,
) -> None:
    """Refuse what ``ltvr.afa.reference.decompose`` and ``augment`` do not take, by name.

    A plan has been through ``check_plan``.

    Raises:
        TypeError: an argument of another type or dtype.
        ValueError: a shape, a device, a number, a choice or a plan that does not fit.
    """
    check_mask(mask_axis, mask_gain, attention_addition)
    check_choice("projection", projection, Projection)
    check_features("x", x, "B, D, H, W")
    if len(weights) != 5:
        raise TypeError(f"{len(weights)} weights: expected w_q, w_k, w_v, w_1 and w_2")
    batch, channels, height, width = x.shape
    size = height * width if projection == "linear" else channels
    w_1 = weights[3]
    # D/r is what the first of the two says; any number but none.
    hidden = w_1.shape[0] if isinstance(w_1, Tensor) and not w_1.is_nested and w_1.dim() else 0
    shapes = [(size, size)] * 3 + [(max(1, hidden), channels), (channels, max(1, hidden))]
    dtypes = _dtypes_beside(x)
    names = ("w_q", "w_k", "w_v", "w_1", "w_2")
    for name, weight, shape in zip(names, weights, shapes, strict=True):
        check_tensor(name, weight, shape, dtypes, x.device)
    if plan is not None:
        check_fit(plan, batch, x.device)


def check_mask(mask_axis: MaskAxis, mask_gain: float, attention_addition: bool) -> None:
    """Refuse options of the mask (eq. 3) and of what follows it, by name."""
    check_choice("mask_axis", mask_axis, MaskAxis)
    check_factor("mask_gain", mask_gain, "1 is eq. 3 to the letter", MOST_GAIN)
    check_flag("attention_addition", attention_addition)


# Asked once: torch.compile cannot trace the question under PyTorch 2.11.
_WITH_AUTOCAST = frozenset(
    kind for kind in ("cpu", "cuda", "mps", "xpu", "hpu") if torch.amp.is_autocast_available(kind)
)


def _dtypes_beside(x: Tensor) -> tuple[torch.dtype, ...]:
    """Dtypes that the weights may have: that of ``x``, or those that autocast casts as well."""
    wide = torch.float64
    if x.dtype == wide or not (
        x.device.type in _WITH_AUTOCAST and torch.is_autocast_enabled(x.device.type)
    ):
        return (x.dtype,)
    return tuple(dtype for dtype in FLOATING if dtype != wide)
