"""The file of a sweep: read from YAML, and held to what a sweep can be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ltvr.config.options import Option
from ltvr.settings import DEFAULT_METHOD, read_values
from ltvr.stages import STAGES
from ltvr.sweeping.design import Range, grid, sobol
from ltvr.sweeping.halving import Halving
from ltvr.sweeping.place import Place
from ltvr.sweeping.plan import METRICS, Arm, Repeat, Sweep

__all__ = ["read"]

KEYS = (
    "name", "preset", "method", "options", "seeds", "folds", "compare_with", "arms", "grid",
    "sobol", "halving", "judge",
)  # fmt: skip
ELSEWHERE = {
    "seed": "say `seeds: [0, 1]`",
    "preset": "say `preset: NAME` in a line of its own",
    "method": "give each method an arm, `arms: {NAME: {method: METHOD}}`",
}
"""Options that a sweep sets by another key."""
MOST_POINTS = 4096


def read(path: Path, said: Mapping[str, Any]) -> Sweep:
    """Read the file of a sweep.

    Args:
        said: options of every run that the command line has, over those of the file.

    Raises:
        UserError: which key, what was expected, and what to do.
    """
    file = Place(path.name)
    values = file.keys(read_values(path), KEYS)
    if "preset" not in values:
        raise file.error("there is no line `preset: NAME`; name a preset, or a YAML file")
    halving = _halving(file.at("halving"), values["halving"]) if "halving" in values else None
    repeats = _repeats(file, values)
    elsewhere = dict(ELSEWHERE)
    if halving is not None:
        elsewhere["epochs"] = "`halving` says the epochs"
    if "folds" in values:
        elsewhere["holdout_fold"] = "`folds` says it"
    method = file.at("method").text(values.get("method", DEFAULT_METHOD))
    arms = _arms(file.at("arms"), values.get("arms", {Path(method).stem: {}}), method, elsewhere)
    arms, swept, how = _with_points(file, values, arms, elsewhere)
    compare_with = values.get("compare_with")
    if compare_with is not None:
        names = [arm.name for arm in arms]
        compare_with = file.at("compare_with").one_of(compare_with, names, "an arm")
    stage, metric = _judge(file.at("judge"), values.get("judge", {}))
    return Sweep(
        name=file.at("name").name(values.get("name", path.stem)),
        preset=file.at("preset").text(values["preset"]),
        options={**_options(file.at("options"), values.get("options", {}), elsewhere), **said},
        arms=arms,
        repeats=repeats,
        swept=swept,
        how=how,
        compare_with=compare_with,
        halving=halving,
        stage=stage,
        metric=metric,
    )


def _repeats(file: Place, values: Mapping[str, Any]) -> tuple[Repeat, ...]:
    """The seeds, and folds that go with them one by one."""
    given: dict[str, list[int]] = {}
    for key in ("seeds", "folds"):
        if key in values:
            place = file.at(key)
            given[key] = [place.whole(n, 0) for n in place.several(values[key], "numbers")]
    folds = given.get("folds")
    seeds = given.get("seeds", folds or [0])
    if folds is None:
        return tuple(Repeat(seed) for seed in seeds)
    if len(folds) != len(seeds):
        raise file.at("folds").error(
            f"{len(folds)} folds and {len(seeds)} seeds; each fold goes with a seed: give as many "
            "of both, or leave out `seeds`"
        )
    return tuple(Repeat(seed, fold) for seed, fold in zip(seeds, folds, strict=True))


def _halving(place: Place, value: Any) -> Halving:
    values, rungs = place.keys(value, ("epochs", "keep")), place.at("epochs")
    epochs = [rungs.whole(n, 1) for n in rungs.several(values.get("epochs"), "epochs")]
    if len(epochs) < 2 or sorted(epochs) != epochs:
        raise rungs.error(f"{epochs}: expected at least two that rise, [10, 30]")
    keep = values.get("keep", 1 / 3)
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep < 1:
        raise place.at("keep").error(f"{keep!r}: expected a share above 0 and below 1, 0.34")
    return Halving(tuple(epochs), keep)


def _judge(place: Place, value: Any) -> tuple[str | None, str]:
    values = place.keys(value, ("stage", "metric"))
    stage = values.get("stage")
    if stage is not None:
        stage = place.at("stage").one_of(stage, STAGES.names(), "a stage")
    metric = values.get("metric", next(iter(METRICS)))
    return stage, place.at("metric").one_of(metric, METRICS, "a metric")


# ---- options ----


def _option(place: Place, name: Any, elsewhere: Mapping[str, str]) -> Option:
    if name in elsewhere:
        raise place.error(f"{name} is not said here; {elsewhere[name]}")
    return place.option(name)


def _options(place: Place, value: Any, elsewhere: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: place.value(_option(place, name, elsewhere), each)
        for name, each in place.mapping(value, "lr: 0.3").items()
    }


def _arms(place: Place, value: Any, method: str, elsewhere: Mapping[str, str]) -> tuple[Arm, ...]:
    arms = []
    for name, given in place.mapping(value, "NAME: {lr: 0.3}").items():
        arm = place.at(place.name(name))
        own = dict(arm.mapping({} if given is None else given, "lr: 0.3"))
        of = arm.at("method").text(own.pop("method", method))
        arms.append(Arm(name, of, _options(arm, own, elsewhere)))
    if not arms:
        raise place.error("there is none; expected lines like NAME: {lr: 0.3}")
    return tuple(arms)


def _with_points(
    file: Place, values: Mapping[str, Any], arms: tuple[Arm, ...], elsewhere: Mapping[str, str]
) -> tuple[tuple[Arm, ...], tuple[str, ...], str]:
    """The arms with their points, the options that these set, and how they were chosen."""
    if "grid" in values and "sobol" in values:
        raise file.error("there are `grid` and `sobol`; a sweep has one of them")
    key = "sobol" if "sobol" in values else "grid"
    if key not in values:
        return arms, (), ""
    place, names = file.at(key), [arm.name for arm in arms]
    given = dict(place.mapping(values[key], "lr: [0.1, 0.3]"))
    over = place.at("over").several(given.pop("over", names), "arms")
    for name in over:
        place.at("over").one_of(name, names, "an arm")
    make = _grid if key == "grid" else _sobol
    points, how = make(place, given, elsewhere)
    swept = (replace(arm, points=tuple(points)) if arm.name in over else arm for arm in arms)
    return tuple(swept), tuple(points[0]), how


def _grid(
    place: Place, given: dict[str, Any], elsewhere: Mapping[str, str]
) -> tuple[list[dict[str, Any]], str]:
    values = {name: _values(place, name, each, elsewhere) for name, each in given.items()}
    _require_points(place, values, math.prod(map(len, values.values())))
    return grid(values), "grid"


def _sobol(
    place: Place, given: dict[str, Any], elsewhere: Mapping[str, str]
) -> tuple[list[dict[str, Any]], str]:
    seed = place.at("seed").whole(given.pop("seed", 0), 0)
    number = place.at("points").whole(given.pop("points", None), 1)
    dimensions = {
        name: _values(place, name, each, elsewhere)
        if isinstance(each, list)
        else _range(place.at(name), _option(place, name, elsewhere), each)
        for name, each in given.items()
    }
    _require_points(place, dimensions, number)
    return sobol(dimensions, number, seed), f"{number} Sobol points (scrambled, seed {seed})"


def _require_points(place: Place, options: Mapping[str, Any], number: int) -> None:
    if not options:
        raise place.error("it names no option; add a line like lr: [0.1, 0.3]")
    if number > MOST_POINTS:
        raise place.error(f"{number} points; expected {MOST_POINTS} at most")


def _values(place: Place, name: str, values: Any, elsewhere: Mapping[str, str]) -> list[Any]:
    option, place = _option(place, name, elsewhere), place.at(name)
    return [place.value(option, each) for each in place.several(values, "values")]


def _range(place: Place, option: Option, value: Any) -> Range:
    if option.kind not in (int, float):
        raise place.error(f"{option.name} is no number; list its values, in brackets")
    values = place.keys(value, ("from", "to", "log"))
    for end in ("from", "to"):
        if end not in values:
            raise place.error(f"there is no `{end}`; expected {{from: LOW, to: HIGH}}")
    low, high = (place.value(option, values[end]) for end in ("from", "to"))
    if not low < high:
        raise place.error(f"from {low:g} to {high:g}: expected two that rise")
    log = values.get("log", False)
    if not isinstance(log, bool):
        raise place.at("log").error(f"{log!r}: expected true or false")
    if log and low <= 0:
        raise place.error(f"from {low:g}: with log it has to be above 0")
    return Range(low, high, log, whole=option.kind is int)
