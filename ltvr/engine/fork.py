"""A run that begins where another has come to: what both have in common is trained once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ltvr.clock import first_epoch
from ltvr.config.config import Config
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.runs.origin import STARTS_FROM, not_compared
from ltvr.stages import STAGES
from ltvr.stages.features import Features, FeaturesOptions, first_generating_epoch
from ltvr.stages.options import TrainingOptions

__all__ = ["Course", "common_epochs", "forked"]


@dataclass(frozen=True)
class Course:
    """What decides the first stage of a run, by when it begins to."""

    epochs: int
    always: dict[str, Any]
    """Options in use by name, without anything that begins later."""
    later: list[tuple[dict[str, Any], int | None]]
    """Of each of ``_DEFERRED`` the options in use, and the epoch in which it begins."""

    @classmethod
    def of(cls, config: Config) -> Course | None:
        """That of a configuration; None where its first stage is not that of the features."""
        if STAGES.get(config.of(TrainingOptions).stages[0]) is not Features:
            return None
        first = config.replaced(stages=("features",))
        passed_over = not_compared(config) - {*STARTS_FROM}
        nothing = {name: value for without, _ in _DEFERRED for name, value in without.items()}
        every = _without(first.effective(), passed_over)
        return cls(
            epochs=first.of(FeaturesOptions).epochs,
            always=_without(first.replaced(**nothing).effective(), passed_over),
            later=[
                (_beside(every, first.replaced(**without).effective()), begins(first))
                for without, begins in _DEFERRED
            ],
        )

    def common(self, other: Course) -> int:
        """Epochs that runs of two courses have in common, to the bit."""
        if self.always != other.always:
            return 0
        starts = [
            start
            for (own, begins), (theirs, begin) in zip(self.later, other.later, strict=True)
            if own != theirs
            for start in (begins, begin)
            if start is not None
        ]
        return min([self.epochs, *starts])


def common_epochs(a: Config, b: Config) -> int:
    """Epochs of the first stage that runs of two configurations have in common, to the bit.

    Options of generation, and of what is deferred, change nothing before that begins, and those of
    later stages nothing in the first; any other difference leaves nothing in common.

    Returns:
        0 if there are none.
    """
    one, other = Course.of(a), Course.of(b)
    return 0 if one is None or other is None else one.common(other)


def _without(options: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def _beside(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Those that the others have not, or have another value of."""
    return {k: v for k, v in options.items() if k not in others or others[k] != v}


def _begins(name: str) -> Callable[[Config], int | None]:
    """When what an option of the first stage defers begins; None for never."""

    def begins(config: Config) -> int | None:
        options = config.of(FeaturesOptions)
        if getattr(options, name) == "none":
            return None
        share: float = getattr(options, f"{name}_start")
        return first_epoch(share, options.epochs)

    return begins


_DEFERRED: list[tuple[dict[str, Any], Callable[[Config], int | None]]] = [
    ({"gamma": 0.0}, first_generating_epoch),
    *(({name: "none"}, _begins(name)) for name in ("deferred_loss", "deferred_sampler")),
    ({"weighting": "none"}, _begins("weighting")),
]
"""What begins within the first stage: how to do without it, and in which epoch it begins."""


def forked(trunk: Run, config: Config, manifest: dict[str, Any]) -> dict[str, Any]:
    """The state of another run that a run of ``config`` would have come to as well.

    Args:
        trunk: the other run, which stopped at the end of an epoch of its first stage.
        manifest: of the run that is to go on from there.

    Returns:
        What ``trunk`` saved last, and ``records`` of its epochs. Where it was evaluated on other
        images these say nothing of that.

    Raises:
        UserError: it has come to another point, or would have come to it in another way.
    """
    if config.of(TrainingOptions).select == "best":
        raise UserError("--fork: the best epoch may be one of the other run's; say --select last")
    state, _ = trunk.peek()
    first, done = config.of(TrainingOptions).stages[0], state["epoch"]
    if state["stage"] != first or state["step"] or not done:
        raise UserError(
            f"--fork {trunk.folder}: it stands within an epoch, or not in the stage {first}; stop "
            "it with --stop-after-epoch"
        )
    common = common_epochs(trunk.config(), config)
    if done > common:
        raise UserError(
            f"--fork {trunk.folder}: it has trained {done} epochs, of which a run of these options "
            f"has {common} in common with it; stop it with --stop-after-epoch {common or 'E'}, or "
            "give this run its options but for those of generation, of what is deferred, and of "
            "later stages"
        )
    other = trunk.manifest()
    if any(manifest[part] != other[part] for part in ("classes", "train_counts")) or (
        manifest["splits"]["train"]["sha256"] != other["splits"]["train"]["sha256"]
    ):
        raise UserError(f"--fork {trunk.folder}: it was trained on other images than these")
    if manifest.get("weights") != other.get("weights"):
        raise UserError(f"--fork {trunk.folder}: it began with other weights than these")
    records = [each for each in trunk.records() if each["epoch"] <= done]
    own = {name: split["sha256"] for name, split in manifest["splits"].items()}
    if own != {name: split["sha256"] for name, split in other["splits"].items()}:
        records = [{**each, "eval": None} for each in records]
    return {**state, "results": {}, "records": records}
