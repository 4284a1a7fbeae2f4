"""The ways to run AFA that are compared: the same equations, given to PyTorch in five forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr import SynthesisPlan
from ltvr.afa import functional, reference

__all__ = ["Provider", "providers"]


class Provider(NamedTuple):
    decompose: Callable[..., Tensor]
    """(x, *weights) -> X + X_class, [B, D, H, W]: a step before generation begins."""
    augment: Callable[..., Tensor]
    """(x, *weights, plan) -> real and generated features, [B+G, D, H, W]."""


def _eager_decompose(x: Tensor, *weights: Tensor, mask_axis: Any) -> Tensor:
    return reference.decompose(x, *weights, mask_axis=mask_axis)[0]


def _eager_augment(x: Tensor, *weights_and_plan: Any, mask_axis: Any) -> Tensor:
    return reference.augment(x, *weights_and_plan, mask_axis=mask_axis)


def _sdpa(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X, X_att and V of the flat map, the attention by PyTorch's own fused kernel."""
    flat = x.flatten(2)
    q, k, v = ((flat @ w).unsqueeze(1) for w in (w_q, w_k, w_v))
    return flat, F.scaled_dot_product_attention(q, k, v).squeeze(1), v.squeeze(1)


def _sdpa_decompose(
    x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_1: Tensor, w_2: Tensor, *, mask_axis: Any
) -> Tensor:
    _, x_att, v = _sdpa(x, w_q, w_k, w_v)
    s = reference.squeeze_excite(x_att, w_1, w_2)
    return x + (reference.mask_softmax(x_att, s, mask_axis) * v).view(x.shape)


def _sdpa_augment(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    plan: SynthesisPlan,
    *,
    mask_axis: Any,
) -> Tensor:
    flat, x_att, v = _sdpa(x, w_q, w_k, w_v)
    features = reference.split_and_generate(
        flat,
        x_att,
        reference.squeeze_excite(x_att, w_1, w_2),
        v,
        plan.class_index,
        plan.variation_index,
        mask_axis=mask_axis,
    )
    return features.view(-1, *x.shape[1:])


def _fused_decompose(x: Tensor, *weights: Tensor, mask_axis: Any, backend: str) -> Tensor:
    return functional.enhance(x, *weights, mask_axis=mask_axis, backend=backend)


def _fused_augment(x: Tensor, *weights_and_plan: Any, mask_axis: Any, backend: str) -> Tensor:
    return functional.augment(x, *weights_and_plan, mask_axis=mask_axis, backend=backend)


def providers(
    device: torch.device, mask_axis: str, backend: str | None = None
) -> dict[str, Provider]:
    """Return every provider by name.

    Args:
        backend: of ``fused``; None is Triton on CUDA and C++ on a CPU.

    Raises:
        ValueError, RuntimeError: the fused kernels do not run here, and why.
    """
    backend = backend or ("triton" if device.type == "cuda" else "cpp")
    backend = functional.resolve_backend(backend, device)
    eager = Provider(_eager_decompose, _eager_augment)
    sdpa = Provider(_sdpa_decompose, _sdpa_augment)
    fused = Provider(
        partial(_fused_decompose, backend=backend), partial(_fused_augment, backend=backend)
    )
    plain = {"eager": eager, "sdpa": sdpa, "fused": fused}
    plain = {
        name: Provider(*(partial(f, mask_axis=mask_axis) for f in provider))
        for name, provider in plain.items()
    }
    compiled = {
        f"compiled {name}": Provider(*(torch.compile(f, dynamic=False) for f in plain[name]))
        for name in ("eager", "sdpa")
    }
    names = ("eager", "compiled eager", "sdpa", "compiled sdpa", "fused")
    return {name: {**plain, **compiled}[name] for name in names}
