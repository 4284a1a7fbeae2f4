"""Trunks: the first epochs that configurations have in common, trained once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Trunk", "plan_trunks"]

T = TypeVar("T")


@dataclass(frozen=True)
class Trunk:
    """A run that stops where those that fork from it part."""

    epoch: int
    """How many epochs of the first stage it trains, in all."""
    like: int
    """Position of the first of the configurations that share it; it is trained as that one is."""
    source: Trunk | None
    """The trunk that it forks from itself."""


def plan_trunks(configs: Sequence[T], common_epochs: Callable[[T, T], int]) -> list[Trunk | None]:
    """For each configuration the trunk that it forks from, which is the last one that it can.

    Where some have more in common than others, a trunk forks from a trunk: of three that part at
    epoch 26, 30 and 34, the first trunk has 26 epochs, and the second goes on from it to 30.

    Args:
        common_epochs: epochs of the first stage that two of them have in common, 0 if none. What a
            has in common with b and b with c, a has with c.
    """
    found: list[Trunk | None] = [None] * len(configs)

    def plan(group: list[int], trunk: Trunk | None) -> None:
        """Give each of a group its trunk; they have at least the epochs of ``trunk`` in common."""
        above = trunk.epoch if trunk else 0
        if len(group) == 1:
            found[group[0]] = trunk
            return
        first, *others = (configs[each] for each in group)
        shared = min(common_epochs(first, each) for each in others)
        if shared > above:
            above, trunk = shared, Trunk(shared, group[0], trunk)
        parts: list[list[int]] = []
        for each in group:
            alike = (p for p in parts if common_epochs(configs[p[0]], configs[each]) > above)
            if part := next(alike, None):
                part.append(each)
            else:
                parts.append([each])
        for part in parts:
            plan(part, trunk)

    if configs:
        plan(list(range(len(configs))), None)
    return found
