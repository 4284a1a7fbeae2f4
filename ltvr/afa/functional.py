"""``decompose``, ``enhance`` and ``augment`` of ``ltvr.afa.reference`` with a choice of backend.

A backend is never swapped for another behind the caller's back: one that cannot run is an error.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Literal

import torch
from torch import Tensor

from ltvr.afa import fused, ops, reference
from ltvr.afa.checks import check_choice
from ltvr.afa.plan import SynthesisPlan
from ltvr.errors import brief

__all__ = ["Backend", "augment", "decompose", "enhance", "resolve_backend"]

Backend = Literal["auto", "reference", "cpp", "triton"]


def resolve_backend(backend: str, device: torch.device) -> str:
    """Name the implementation that ``backend`` runs on ``device``.

    ``auto`` is ``triton`` on CUDA and ``cpp`` on a CPU, and ``reference`` where the C++ extension
    is not built or the device is another.

    Raises:
        TypeError: a backend that is not a string, or a device that is not a ``torch.device``.
        ValueError: an unknown backend, or one that does not run on this device.
        RuntimeError: a backend that is not installed.
    """
    check_choice("backend", backend, Backend)
    if not isinstance(device, torch.device):
        raise TypeError(f"device = {brief(device)}: expected a torch.device")
    if backend == "auto":
        backend = "reference"
        if device.type == "cuda":
            backend = "triton"
        elif device.type == "cpu" and ops.extension_available():
            backend = "cpp"
        if not torch.compiler.is_compiling():
            _log_choice(backend, device.type)
    if backend == "cpp":
        if device.type != "cpu":
            raise ValueError(
                f"backend = 'cpp' on {device}: it runs on a CPU; use 'triton' or 'auto'"
            )
        ops.require_extension()
    if backend == "triton":
        ops.require_triton(device)
    return backend


@functools.cache
def _log_choice(backend: str, device: str) -> None:
    logging.getLogger(__name__).info("backend = 'auto' on %s: %s", device, backend)


def _device_of(x: Tensor) -> torch.device:
    if not isinstance(x, Tensor):
        raise TypeError(f"x: expected a tensor, got {type(x).__name__}")
    return x.device


def enhance(x: Tensor, *weights: Tensor, backend: str = "auto", **options: Any) -> Tensor:
    """X + X_class alone (eq. 6), by ``backend``; arguments as ``ltvr.afa.reference.decompose``."""
    backend = resolve_backend(backend, _device_of(x))
    if backend == "reference":
        return reference.decompose(x, *weights, **options)[0]
    return fused.enhance(ops.kernels(backend, x.device), x, *weights, **options)


def decompose(
    x: Tensor, *weights: Tensor, backend: str = "auto", **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """``ltvr.afa.reference.decompose`` by ``backend``; same arguments, same results.

    Under autocast the fused backends return its dtype.
    """
    backend = resolve_backend(backend, _device_of(x))
    if backend == "reference":
        return reference.decompose(x, *weights, **options)
    return fused.decompose(ops.kernels(backend, x.device), x, *weights, **options)


def augment(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_1: Tensor,
    w_2: Tensor,
    plan: SynthesisPlan,
    *,
    backend: str = "auto",
    **options: Any,
) -> Tensor:
    """``ltvr.afa.reference.augment`` by ``backend``; same arguments, same results.

    Under autocast the fused backends return its dtype.
    """
    backend = resolve_backend(backend, _device_of(x))
    weights = (w_q, w_k, w_v, w_1, w_2)
    if backend == "reference":
        return reference.augment(x, *weights, plan, **options)
    return fused.augment(ops.kernels(backend, x.device), x, *weights, plan=plan, **options)
