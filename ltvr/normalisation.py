"""BatchNorm that sees rows which its running statistics are not to be of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["statistics_left"]


@contextmanager
def statistics_left(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of BatchNorm as they are, whatever passes through it."""
    momenta = {m: m.momentum for m in module.modules() if isinstance(m, _BatchNorm)}
    for each in momenta:
        each.momentum = 0.0
    try:
        yield
    finally:
        for each, momentum in momenta.items():
            each.momentum = momentum
