"""A run that begins where another has come to: what both have in common is trained once."""

from __future__ import annotations

from typing import Any

from ltvr.config.config import Config
from ltvr.config.options import lineage, options_of
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.runs.origin import not_compared
from ltvr.stages import STAGES
from ltvr.stages.features import Features, FeaturesOptions, first_generating_epoch
from ltvr.stages.options import TrainingOptions

__all__ = ["common_epochs", "forked"]


def common_epochs(a: Config, b: Config) -> int:
    """Epochs of the first stage that runs of two configurations have in common, to the bit.

    Options of generation change nothing before generation begins, and those of later stages nothing
    in the first; any other difference leaves nothing in common.

    Returns:
        0 if there are none.
    """
    if any(STAGES.get(config.of(TrainingOptions).stages[0]) is not Features for config in (a, b)):
        return 0
    own, other = a.effective(), b.effective()
    differ = {name for name in {**own, **other} if own.get(name) != other.get(name)}
    differ -= not_compared(a) | not_compared(b) | _of_later_stages()
    epochs, generation = a.of(FeaturesOptions).epochs, _of_generation()
    if differ - generation:
        return 0
    if not differ:
        return epochs
    starts = (first_generating_epoch(config) for config in (a, b))
    return min(epochs if start is None else start for start in starts)


def _of_generation() -> set[str]:
    return {option.name for option in options_of(GenerationOptions)}


def _of_later_stages() -> set[str]:
    """Options of every stage but the first, and which they are."""
    kinds = {each for name in STAGES.names() for each in lineage(STAGES.get(name).options_type)}
    names = {option.name for kind in kinds for option in options_of(kind)}
    return names - {option.name for option in options_of(FeaturesOptions)} | {"stages"}


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
            "give this run its options but for those of generation and of later stages"
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
