"""What a sweep is: its arms, their points, how often each is run, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ltvr.sweeping.halving import Halving

__all__ = ["METRICS", "Arm", "Repeat", "Sweep"]

METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "all": "top-1 of all images",
    "many": "top-1 of many-shot classes",
    "medium": "top-1 of medium-shot classes",
    "few": "top-1 of few-shot classes",
    "macro_f1": "macro F1",
    "worst_class": "top-1 of the worst class",
}
"""Of a stage, which configurations can be judged by, and what a reader calls them. More is better;
the first is the usual one."""


@dataclass(frozen=True)
class Arm:
    """A named configuration, and the points of it that are tried."""

    name: str
    method: str
    options: Mapping[str, Any]
    """Its own, over preset, method and the options of the sweep."""
    points: tuple[Mapping[str, Any], ...] = ({},)
    """Options over those, of the grid or of the Sobol points; one without any where the arm is not
    swept."""


@dataclass(frozen=True)
class Repeat:
    """One of the runs of a configuration."""

    seed: int
    fold: int | None = None
    """Which part is held out; None: as the options say."""

    @property
    def name(self) -> str:
        """Of run folders."""
        return f"seed{self.seed}" if self.fold is None else f"seed{self.seed}-fold{self.fold}"

    @property
    def options(self) -> dict[str, int]:
        """What it sets, by name."""
        fold = {} if self.fold is None else {"holdout_fold": self.fold}
        return {"seed": self.seed, **fold}


@dataclass(frozen=True)
class Sweep:
    """What a file says."""

    name: str
    preset: str
    options: Mapping[str, Any]
    """Of every run that uses them."""
    arms: tuple[Arm, ...]
    repeats: tuple[Repeat, ...]
    swept: tuple[str, ...]
    """Options that the points set."""
    how: str
    """Of the points, for a reader; empty where there are none."""
    compare_with: str | None
    """The arm that gains are over."""
    halving: Halving | None
    stage: str | None
    """That configurations are judged by; None: the last one of each."""
    metric: str
    """One of ``METRICS``."""

    @property
    def rungs(self) -> tuple[int | None, ...]:
        """The epochs of each rung of halving; one, as the options have it, without halving."""
        return self.halving.epochs if self.halving else (None,)
