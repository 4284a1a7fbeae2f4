"""Images, their long-tailed subsets, the order they are read in, and batches of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltvr.data.samplers import (
        ClassAwareSampler,
        EffectiveNumberSampler,
        InstanceSampler,
        ProgressiveSampler,
        SquareRootSampler,
    )

__all__ = [
    "ClassAwareSampler",
    "EffectiveNumberSampler",
    "InstanceSampler",
    "ProgressiveSampler",
    "SquareRootSampler",
]


def __getattr__(name: str) -> Any:
    # Not on top: samplers import this package themselves.
    if name in __all__:
        from ltvr.data import samplers

        return getattr(samplers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
