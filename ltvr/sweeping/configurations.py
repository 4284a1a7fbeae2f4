"""The configurations of a sweep: every arm at its points, each once, and refused before a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltvr.config.command_line import refuse_unused
from ltvr.config.config import Config
from ltvr.data.options import DataOptions
from ltvr.errors import UserError
from ltvr.jobs.training import Training, decisive
from ltvr.settings import SCHEMA, load_config
from ltvr.stages.build import stages_of
from ltvr.sweeping.plan import Arm, Repeat, Sweep

__all__ = ["Configuration", "Design"]

IMAGES = (
    "dataset", "root", "lists", "imbalance", "imbalance_type", "data_seed", "holdout",
    "holdout_from", "holdout_fold", "many_above", "few_below",
)  # fmt: skip
"""Options of what is trained on and judged on, and of which classes are called many and few."""


@dataclass(frozen=True, eq=False)
class Configuration:
    """An arm at one of its points. There is one object of each."""

    arm: Arm
    point: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For a reader."""
        return ", ".join([self.arm.name, *(f"{k} {said(v)}" for k, v in self.point.items())])


@dataclass(frozen=True)
class Design:
    """All configurations of a sweep."""

    sweep: Sweep
    configurations: tuple[Configuration, ...]
    """In the order of the file."""
    notes: tuple[str, ...]
    """Which ones are the same as others, and are left out."""

    @classmethod
    def of(cls, sweep: Sweep) -> Design:
        """Make every configuration, and refuse what could not be trained, or judged.

        Raises:
            UserError: options that do not fit, or that change nothing; no hold-out; no such stage.
        """
        every = [Configuration(arm, point) for arm in sweep.arms for point in arm.points]
        made = {each: list(_configs(sweep, each)) for each in every}
        _refuse_unused(sweep, {each: configs[0] for each, configs in made.items()})
        for each, configs in made.items():
            for config in configs:
                _refuse(sweep, each, config)
        _refuse_other_images({each: configs[0] for each, configs in made.items()})
        keys = {each: _key(configs[0], sweep.repeats[0]) for each, configs in made.items()}
        # Of two that are the same the arm that gains are over is kept.
        first: dict[str, Configuration] = {}
        for each in sorted(every, key=lambda each: each.arm.name != sweep.compare_with):
            first.setdefault(keys[each], each)
        notes = [
            f"{each.label} is the same configuration as {same.label}: it is trained once"
            for each in every
            if (same := first[keys[each]]) is not each
        ]
        kept = set(first.values())
        return cls(sweep, tuple(each for each in every if each in kept), tuple(notes))

    def training(
        self, configuration: Configuration, rung: int, repeat: Repeat, out: Path
    ) -> Training:
        """A run of a configuration, which is taken where it is there under another arm's name.

        Args:
            out: the folder of run folders.
        """
        config, options = _made(self.sweep, configuration, self.sweep.rungs[rung], repeat)
        key, arm = _key(config, repeat), configuration.arm
        end = f"-{key}-{repeat.name}"
        label = f"{arm.name}-{key}"
        there = sorted(path.name for path in out.glob(f"*{end}") if path.is_dir())
        if there and f"{label}-{repeat.name}" not in there:
            label = there[0].removesuffix(f"-{repeat.name}")
        name = f"{label}-{repeat.name}"
        return Training(label, name, out, self.sweep.preset, arm.method, options, config)


def _configs(sweep: Sweep, configuration: Configuration) -> Iterator[Config]:
    for epochs in sweep.rungs:
        yield _made(sweep, configuration, epochs, sweep.repeats[0])[0]


def _made(
    sweep: Sweep, configuration: Configuration, epochs: int | None, repeat: Repeat
) -> tuple[Config, dict[str, Any]]:
    """A configuration, and the options that give it, over its preset and its method.

    Options that are for other arms are not among those, nor those that are as they are anyway: on
    a command line they would be refused, or say nothing.
    """
    arm = configuration.arm
    given = {**sweep.options, **arm.options, **configuration.point, **repeat.options}
    if epochs is not None:
        given["epochs"] = epochs
    try:
        before = load_config(sweep.preset, arm.method).flat()
        config = load_config(sweep.preset, arm.method, given)
    except UserError as error:
        at = f" at {epochs} epochs" if epochs else ""
        raise UserError(f"{configuration.label}{at}: {error}") from None
    used = config.effective()
    counts = {name for name, value in given.items() if name in used and before[name] != value}
    options = {name: config.flat()[name] for name in given if name in counts | {"seed"}}
    return config, options


def _refuse_unused(sweep: Sweep, made: Mapping[Configuration, Config]) -> None:
    """Refuse options of an arm that it does not use, or of the sweep that no arm does.

    Raises:
        UserError: which, and why it changes nothing.
    """
    _require_use("options", sweep.options, list(made.values()))
    for arm in sweep.arms:
        own = [config for each, config in made.items() if each.arm is arm]
        _require_use(f"arm {arm.name}", [*arm.options, *arm.points[0]], own)


def _require_use(where: str, names: Iterable[str], configs: Sequence[Config]) -> None:
    """Refuse the first option that none of these configurations uses."""
    for name in names:
        if not any(_uses(config, name) for config in configs):
            try:
                refuse_unused(configs[-1], [name])
            except UserError as error:
                raise UserError(f"{where}: {error}") from None


def _uses(config: Config, name: str) -> bool:
    return name in config.effective() or config.flat()[name] is False


def _refuse(sweep: Sweep, configuration: Configuration, config: Config) -> None:
    """Refuse what would be judged on the test set, or could not be trained or judged at all."""
    label = configuration.label
    if config.of(DataOptions).judged_on == "test":
        raise UserError(
            f"{label} would be judged on the test set, by which nothing may be chosen; add a "
            "hold-out to `options`: holdout: 0.1, or as many images of each class, and where from, "
            "holdout_from: train, left-out or val"
        )
    stages = stages_of(config)
    name, first = next(iter(stages.items()))
    if first.needs_trained:
        raise UserError(
            f"{label}: its first stage, {name}, starts from trained features; have it train them, "
            "stages: [features, ...]"
        )
    if sweep.stage is not None and sweep.stage not in stages:
        raise UserError(
            f"{label} has no stage {sweep.stage} to be judged by, but {', '.join(stages)}; name "
            "another one under `judge`, or train it"
        )


def _refuse_other_images(made: Mapping[Configuration, Config]) -> None:
    """Refuse configurations that are judged on, or train on, other images than the first."""
    (first, config), *others = made.items()
    own = config.effective()
    for each, other in ((each, config.effective()) for each, config in others):
        if name := next((n for n in IMAGES if own.get(n) != other.get(n)), None):
            raise UserError(
                f"{each.label} has other images or subsets than {first.label}, as {name} is "
                f"{said(other.get(name))} and {said(own.get(name))}: their numbers do not compare; "
                f"say {name} under `options`, and give each value a sweep of its own"
            )


def _key(config: Config, repeat: Repeat) -> str:
    """A short digest of what decides a run, but for what its repeat sets.

    What is as it is by default is not in it, so that options that a later version adds leave it.
    """
    default = {name: option.default for name, option in SCHEMA.options.items()}
    own = {
        name: value
        for name, value in decisive(config).items()
        if name not in repeat.options and value != default[name]
    }
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]


def said(value: Any) -> str:
    """A value of an option, for a reader."""
    if isinstance(value, tuple):
        return " ".join(map(said, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
