"""The runs of a comparison: read, held to be comparable, and grouped by configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.errors import UserError, brief, shown
from ltvr.runs.folder import Run
from ltvr.runs.origin import decide_nothing

__all__ = ["Entry", "Group", "check_comparable", "differences", "grouped", "read_entry"]

NOT_TOLD_APART = {"device", "eval_batch_size"}
"""Options that may differ between runs of one configuration, as those may that decide nothing."""
LABELS = {"preset", "method"}
"""Options that name others."""
PIXELS = ("image_size", "resize", "background")
"""Options that the digest of images in memory depends on."""
NOT_IN_USE = "not in use"
_JUDGED = {"test": "the test set", "hold-out": "a hold-out"}
MOST_IN_A_LABEL = 3


@dataclass(frozen=True)
class Entry:
    """What is read of a run, finished or not."""

    run: Run
    config: Config
    manifest: dict[str, Any]
    records: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]] | None
    """By stage; None of a run that is not finished."""

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config.of(RunOptions).seed

    @property
    def judged_on(self) -> str:
        """The split that its metrics are of."""
        return self.config.of(DataOptions).judged_on

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options in use that change something, by name, but for those of the machine.

        With those, as ``from.NAME``, of the run whose features it started from.
        """
        effective, left_out = self.config.effective(), decide_nothing(self.config) | NOT_TOLD_APART
        own = {name: value for name, value in effective.items() if name not in left_out}
        source = self.manifest.get("source")
        if source is None:
            return own
        known = source.get("options", {"features": source["sha256"][:12]})  # older runs say no more
        began = {
            f"from.{name}": tuple(value) if isinstance(value, list) else value
            for name, value in known.items()
            if name not in left_out | {"seed", *LABELS}
        }
        return own | began


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, by rising seed."""

    label: str
    """Short, for a person, on one line."""
    entries: list[Entry]


def read_entry(path: Path) -> Entry:
    """Read a run by its folder.

    Raises:
        UserError: a checkpoint, no run, or files of it that are damaged.
    """
    run = Run.open(path)
    if path != run.folder:
        raise UserError(f"{path} is a checkpoint; name the run folder, all stages are compared")
    metrics = run.read_summary()["metrics"] if run.summary.is_file() else None
    return Entry(run, run.config(), run.manifest(), run.records(), metrics)


def check_comparable(first: Entry, other: Entry) -> list[str]:
    """Refuse a run whose numbers mean something else; say what else a person should know.

    Returns:
        A line if the training images are others, as with another imbalance.

    Raises:
        UserError: other classes, or other images that it was judged on.
    """
    here, there = first.manifest, other.manifest
    name, base = shown(other.run.folder), shown(first.run.folder)
    if there["classes"] != here["classes"]:
        changed = sorted(set(here["classes"]) ^ set(there["classes"]))
        what = f"first {brief(changed[0])}" if changed else "in another order"
        raise UserError(
            f"{name} has other classes than {base} ({len(there['classes'])} and "
            f"{len(here['classes'])}, {what}); leave it out"
        )
    if other.judged_on != first.judged_on:
        raise UserError(
            f"{name} was judged on {_JUDGED[other.judged_on]}, and {base} on "
            f"{_JUDGED[first.judged_on]}: their numbers do not compare; leave it out"
        )
    if not other.run.same_images(first.run, first.judged_on):
        differ = [n for n in PIXELS if first.config.flat()[n] != other.config.flat()[n]]
        hint = (
            f" ({', '.join(differ)} differ, and the digest of small images is of their pixels)"
            if differ
            else ""
        )
        raise UserError(
            f"{name} has other {first.judged_on} images than {base} (sha256){hint}; leave it out"
        )
    if other.run.same_images(first.run, "train"):
        return []
    return [
        f"{name} was trained on other images than {base}: {_said(other)}, against {_said(first)}"
    ]


def _said(entry: Entry) -> str:
    """Number and imbalance of the training images."""
    counts = entry.manifest["train_counts"]
    ratio = f"{max(counts) / min(counts):.1f} : 1" if min(counts) else "with empty classes"
    return f"{sum(counts)} images, {ratio}"


def grouped(entries: Sequence[Entry]) -> list[Group]:
    """The runs by configuration, in order; runs that differ in their seed alone are one group.

    A second run of the same configuration and seed begins a group of its own.
    """
    found: dict[Any, list[Entry]] = {}
    for entry in entries:
        names = {k: v for k, v in entry.options.items() if k not in {"seed", "preset"}}
        train = entry.manifest["splits"].get("train", {}).get("sha256")
        key: Any = (tuple(sorted(names.items())), train)
        again = 0
        while any(each.seed == entry.seed for each in found.get((key, again), [])):
            again += 1
        found.setdefault((key, again), []).append(entry)
    groups = [sorted(each, key=lambda entry: entry.seed) for each in found.values()]
    return [Group(label, each) for label, each in zip(_labels(groups), groups, strict=True)]


def _labels(groups: list[list[Entry]]) -> list[str]:
    """The method of each group; where several have it, what differs; else the folder."""
    methods = [shown(each[0].config.of(RunOptions).method) for each in groups]
    labels = []
    for each, method in zip(groups, methods, strict=True):
        alike = [g[0] for g, m in zip(groups, methods, strict=True) if m == method]
        if len(alike) == 1:
            labels.append(method)
            continue
        rows = {k: v for k, v in differences(alike).items() if k not in LABELS and k != "seed"}
        at = alike.index(each[0])
        said = [f"{k} {values[at]}" for k, values in rows.items() if values[at] != NOT_IN_USE]
        few = 0 < len(said) <= MOST_IN_A_LABEL
        labels.append(", ".join([method, *said]) if few else shown(each[0].run.name))
    for name in (lambda run: run.name, lambda run: str(run.folder)):  # a configuration twice
        labels = [
            shown(name(each[0].run)) if labels.count(label) > 1 else label
            for each, label in zip(groups, labels, strict=True)
        ]
    return labels


def differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The options that differ and are in use in one of the runs: a value for each run."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.options))
    rows = {name: [_value(entry, name) for entry in entries] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _value(entry: Entry, name: str) -> str:
    if name not in entry.options:
        return NOT_IN_USE
    value = entry.options[name]
    if isinstance(value, tuple):
        return shown(" ".join(map(str, value)) or "none")
    if isinstance(value, bool):
        return str(value).lower()
    return shown(f"{value:g}" if isinstance(value, float) else "none" if value == "" else value)
