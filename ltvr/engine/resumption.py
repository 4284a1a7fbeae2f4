"""What a run goes on from: its checkpoint, held to the run, and what to say of it first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ltvr.config.config import Config
from ltvr.errors import UserError
from ltvr.runs.checkpoint import BEST, Foreign, load_checkpoint
from ltvr.runs.folder import Run
from ltvr.runs.forms import check
from ltvr.runs.origin import check_origin
from ltvr.stages.base import Stage
from ltvr.stages.options import TrainingOptions

__all__ = ["differences", "earlier_environments", "state_to_resume"]

DECIDE_THE_BITS = (
    "device",
    "threads",
    "ranks",
    "cpu_capability",
    "bf16_units",
    "torch",
    "fp32_precision",
)
"""What of the environment decides how sums are rounded."""
ON_A_GPU = ("triton", "triton_autotune")
"""What else does so on a GPU."""


def state_to_resume(
    run: Run,
    config: Config,
    stages: Mapping[str, Stage],
    environment: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Read the state of a run from ``last.pt``, or from the one before where that is damaged.

    Args:
        stages: of the run, in order.
        environment: that training goes on in (``ltvr.runs.environment``).
        say: what prints a line where the result may not be that of a run that was not stopped.

    Raises:
        UserError: there is none, it is not of this run, or the best epoch so far, which is to be
            reported, is missing.
    """
    state, damage = run.load()
    check_origin(state, run.last, config, run.manifest())
    if state["stage"] not in stages:
        known = ", ".join(stages)
        raise UserError(f"{run.last}: stage = {state['stage']!r}: expected one of {known}")
    if config.of(TrainingOptions).select == "best" and state["best"] >= 0:
        state["best"] = _checked_best(run, config, state)
    if damage is not None:
        say(damage)
    if missing := _missing_records(run, stages, state):
        say(
            f"{run.folder}/metrics.jsonl lacks the records of {', '.join(missing)}; the "
            "report will be without them"
        )
    if differ := differences(state.get("environment", environment), environment):
        say(
            f"the last bits may differ from those of a run that was not stopped: it was saved "
            f"with {', '.join(differ)}"
        )
    return state


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What decides the last bits and is not as it was: each ``name value (now value)``.

    Args:
        there, here: the environments of a checkpoint and of this process
            (``ltvr.runs.environment``). What an older version did not record is not compared.
    """
    on_a_gpu = ON_A_GPU if here["device"].startswith("cuda") else ()
    return [
        f"{name} {there[name]} (now {here[name]})"
        for name in (*DECIDE_THE_BITS, *on_a_gpu)
        if name in there and there[name] != here[name]
    ]


def earlier_environments(state: Mapping[str, Any], here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Environments that a run was trained in before ``here`` and that decided the bits otherwise.

    Args:
        state: of a checkpoint, which has its own environment and those before.
        here: the environment that training goes on in.
    """
    there = state.get("environment", here)
    before = state.get("earlier_environments", [])
    return [*before, dict(there)] if differences(there, here) else list(before)


def _missing_records(run: Run, stages: Mapping[str, Stage], state: dict[str, Any]) -> list[str]:
    """The epochs before ``state`` of which there is no record, by stage."""
    known = {(record["stage"], record["epoch"]) for record in run.records()}
    names, missing = list(stages), []
    for name in names[: names.index(state["stage"]) + 1]:
        done = state["epoch"] if name == state["stage"] else stages[name].epochs
        lost = [epoch for epoch in range(1, done + 1) if (name, epoch) not in known]
        if lost:
            missing.append(f"{name} epoch {', '.join(_spans(lost))}")
    return missing


def _spans(numbers: list[int]) -> list[str]:
    """Rising numbers in words, those that follow one another as ``1-3``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return [f"{s[0]}-{s[-1]}" if len(s) > 1 else str(s[0]) for s in spans]


def _checked_best(run: Run, config: Config, state: dict[str, Any]) -> float:
    """Hold the file of the best epoch of a stage to the state that training goes on from.

    The file is written before ``last.pt``: it may be of an epoch that is to be trained again.

    Returns:
        The accuracy of its epoch, which the epochs to come are to exceed.

    Raises:
        UserError: it is missing, damaged, or of another run, stage or epoch.
    """
    path = run.best(state["stage"])
    if not path.is_file():
        raise UserError(
            f"{path} is missing, and --select best may report it; restore it, or start a new run"
        )
    best = load_checkpoint(path)
    check_origin(best, path, config, run.manifest())
    if "best" not in best:  # of ltvr 0.1: weights alone, which do not say whose they are
        return float(state["best"])
    check(best, BEST, path)
    ahead = best["epoch"] >= state["epoch"] and best["best"] > state["best"]
    for name, fits in (
        ("stage", best["stage"] == state["stage"]),
        ("best", best["best"] == state["best"] or ahead),
    ):
        if not fits:
            raise Foreign(
                f"{path} does not belong to {run.last}: {name} is {best[name]} there and "
                f"{state[name]} here; restore it, or start a new run"
            )
    return float(best["best"])
