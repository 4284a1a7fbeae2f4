"""Of which run a checkpoint is: the options and the images that decided what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltvr.config.config import Config
from ltvr.config.options import options_of
from ltvr.errors import brief
from ltvr.runs.checkpoint import Foreign
from ltvr.runs.forms import Form, check
from ltvr.stages.options import TrainingOptions

__all__ = [
    "DECIDE_NOTHING",
    "STARTS_FROM",
    "check_origin",
    "decide_nothing",
    "not_compared",
    "origin",
]

DECIDE_NOTHING = ("workers", "root", "lists", "evaluate_every", "batchnorm_images")
"""Options that no weight depends on: where images are, how they are read, and what is evaluated."""
STARTS_FROM = ("weights", "pretrained")
"""Options of the weights that a run begins with: they decide what becomes of it, but not of one
that goes on from a checkpoint."""
NOT_COMPARED = {"preset", "method", "device", *STARTS_FROM}
"""Options that may differ as well: names, ``STARTS_FROM``, and the device, whose change is told of
by the environment in the checkpoint."""
ORIGIN: Form = {"config": dict, "splits": {str: str}}


def decide_nothing(config: Config) -> set[str]:
    """Options that no reported weight of a run depends on.

    Those of ``DECIDE_NOTHING``; but what is evaluated decides where the best of it is reported.
    """
    best = config.of(TrainingOptions).select == "best"
    return {*DECIDE_NOTHING} - ({"evaluate_every"} if best else set())


def not_compared(config: Config) -> set[str]:
    """Options that may differ between a run and what is held to be of the same run."""
    return decide_nothing(config) | NOT_COMPARED


def origin(config: Config, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoints of a run hold of it: every option by name, the sha256 of its splits."""
    values = {name: _plain(value) for name, value in config.flat().items()}
    splits = {name: split["sha256"] for name, split in manifest["splits"].items()}
    weights = manifest.get("weights", {}).get("sha256")
    return {"config": values, "splits": splits | ({"weights": weights} if weights else {})}


def check_origin(
    state: dict[str, Any], path: Path, config: Config, manifest: dict[str, Any]
) -> None:
    """Refuse a checkpoint of another run; older ones do not say of which they are.

    Options that are not in use are passed over, and those that only one of the two versions of
    ltvr has.

    Raises:
        Foreign: the first option in use, or the first split, that differs.
    """
    if "config" not in state and "splits" not in state:
        return
    check(state, ORIGIN, path)
    own, passed_over = origin(config, manifest), not_compared(config)
    for name in (option.name for kind in config.in_use for option in options_of(kind)):
        there, here = state["config"].get(name, own["config"][name]), own["config"][name]
        if name not in passed_over and there != here:
            raise Foreign(
                f"{path} is of a run with {name} = {brief(there)}, and config.yaml beside it has "
                f"{brief(here)}; restore the one that is not this run's, or start a new run"
            )
    for name in {**own["splits"], **state["splits"]}:
        if own["splits"].get(name) != state["splits"].get(name):
            what = "initial weights" if name == "weights" else f"{name} images"
            raise Foreign(
                f"{path} is of a run with other {what} than manifest.json beside it (sha256); "
                "restore the one that is not this run's, or start a new run"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
