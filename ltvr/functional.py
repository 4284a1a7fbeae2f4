"""``decompose`` and ``augment`` of ``ltvr.reference`` with a choice of backend.

A backend is never swapped for another behind the caller's back: one that cannot run is an error.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor

from ltvr import reference
from ltvr.planning import SynthesisPlan

__all__ = ["Backend", "augment", "decompose", "resolve_backend"]

Backend = Literal["auto", "reference"]


def resolve_backend(backend: str) -> str:
    """Name the implementation that ``backend`` runs here; ``auto`` is the fastest there is.

    Raises:
        ValueError: an unknown backend.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend = {backend!r}: expected one of {', '.join(get_args(Backend))}")
    return "reference"


def decompose(
    x: Tensor, *weights: Tensor, backend: str = "auto", **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """``ltvr.reference.decompose`` by ``backend``; same arguments, same results."""
    resolve_backend(backend)
    return reference.decompose(x, *weights, **options)


def augment(
    x: Tensor,
    labels: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    plan: SynthesisPlan,
    *,
    backend: str = "auto",
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """``ltvr.reference.augment`` by ``backend``; same arguments, same results."""
    resolve_backend(backend)
    return reference.augment(x, labels, w_q, w_k, w_v, w_1, w_2, plan, **options)
