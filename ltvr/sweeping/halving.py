"""Successive halving: many configurations for few epochs, the best of them for more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Halving"]


@dataclass(frozen=True)
class Halving:
    """Jamieson and Talwalkar, AISTATS 2016: rungs of rising epochs, of falling numbers."""

    epochs: tuple[int, ...]
    """Of the first stage, by rung."""
    keep: float
    """Share of the configurations of a rung that goes on to the next one."""

    def number(self, of: int, rung: int) -> int:
        """How many of all configurations are on a rung; at least one."""
        return max(1, int(of * self.keep**rung + 0.5))

    def going_on(
        self, scores: Sequence[float | None], of: int, rung: int, always: Collection[int] = ()
    ) -> list[int]:
        """Positions of those that go on to a rung, rising.

        Of equal ones it is the first, which costs what was planned and is the same every time.

        Args:
            scores: of the rung below, more is better; None of one that has none, as it diverged.
            of: the number of all configurations, on the first rung.
            always: positions of those that go on in any case, besides, if they have a score.
        """
        known = [(-score, at) for at, score in enumerate(scores) if score is not None]
        best = [at for _, at in sorted(known)][: self.number(of, rung)]
        return sorted({*best, *(at for at in always if scores[at] is not None)})
