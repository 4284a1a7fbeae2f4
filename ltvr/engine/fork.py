"""A run that begins where another has come to: what both have in common is trained once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ltvr.config.config import Config
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.runs.origin import not_compared
from ltvr.stages import STAGES
from ltvr.stages.features import Features, FeaturesOptions, first_generating_epoch
from ltvr.stages.options import TrainingOptions

__all__ = ["common_epochs", "forked"]


def common_epochs(a: Config, b: Config) -> int:
    """Epochs of the first stage that runs of two configurations have in common, to the bit.

    Options of generation, and of what is deferred, change nothing before that begins, and those of
    later stages nothing in the first; any other difference leaves nothing in common.

    Returns:
        0 if there are none.
    """
    if any(STAGES.get(config.of(TrainingOptions).stages[0]) is not Features for config in (a, b)):
        return 0
    one, other = (config.replaced(stages=("features",)) for config in (a, b))
    passed_over = not_compared(a) | not_compared(b)
    nothing = {name: value for without, _ in _DEFERRED for name, value in without.items()}
    if _parts(one, {}, nothing, passed_over) != _parts(other, {}, nothing, passed_over):
        return 0
    common = one.of(FeaturesOptions).epochs
    for without, begins in _DEFERRED:
        if _parts(one, without, {}, passed_over) != _parts(other, without, {}, passed_over):
            starts = (begins(config) for config in (one, other))
            common = min([common, *(start for start in starts if start is not None)])
    return common


def _parts(
    config: Config, less: dict[str, Any], changed: dict[str, Any], passed_over: set[str]
) -> dict[str, Any]:
    """Options in use by name, once ``changed``; of ``less`` those that it would take away."""
    whole = config.replaced(**changed).effective()
    rest = config.replaced(**less).effective() if less else {}
    return {
        name: value
        for name, value in whole.items()
        if name not in passed_over and (name not in rest or rest[name] != value)
    }


def _begins(name: str) -> Callable[[Config], int | None]:
    """When what an option of the first stage defers begins; None for never."""

    def begins(config: Config) -> int | None:
        options = config.of(FeaturesOptions)
        if getattr(options, name) == "none":
            return None
        share: float = getattr(options, f"{name}_start")
        return round(share * options.epochs)

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
