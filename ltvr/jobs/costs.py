"""What runs cost on this machine, by what others of the same cost took, or by a few steps."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.splits import Data
from ltvr.device import choose_device
from ltvr.errors import UserError
from ltvr.jobs.children import THREADS, Job
from ltvr.jobs.places import places_of_images
from ltvr.jobs.timing import TIMED_STEPS, timed
from ltvr.jobs.training import REPEATED, Training, decisive
from ltvr.runs import files
from ltvr.runs.checkpoint import load_checkpoint
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.runs.forms import Form, read_json
from ltvr.stages.build import stages_of

__all__ = ["Cost", "Costs"]

MACHINE = ("device", "threads", "cpu_capability")
"""What times depend on, of the environment of a run."""
OF_NO_COST = re.compile(r"(\w+_)?(lr|lr_decay|milestones|momentum|weight_decay|epochs)")
"""Options, of any stage, that decide what an epoch does to the weights, or how many epochs there
are, and not how long one takes."""
FILE = "costs.json"
TIMED: Form = {str: {"machine": dict, "options": dict, "seconds": {str: [float]}}}


class Cost(NamedTuple):
    """Seconds that are left of a run, and how they were measured."""

    seconds: float
    how: str


class Took(NamedTuple):
    """How long one epoch was."""

    at: float
    """Its middle, as a share of its stage: 0 to 1."""
    seconds: float


class Known(NamedTuple):
    """A run of which epochs are known, or a few steps."""

    name: str
    options: Mapping[str, Any]
    """Those that its cost depends on."""
    machine: Mapping[str, Any]
    took: Mapping[str, Sequence[Took]]
    """By stage."""


@dataclass
class Costs:
    """What is left of runs, by those that there are in some folders: of the same cost, and here."""

    folders: Sequence[Path]
    """Of run folders, and of the file of the runs that were timed."""
    _read: dict[Path, tuple[int, Known]] = field(default_factory=dict)
    """Runs by the file of their records, and when that was written."""

    @classmethod
    def beside(cls, jobs: Iterable[Job]) -> Costs:
        """By the runs in the folders of some jobs."""
        return cls([*dict.fromkeys(job.log.parent for job in jobs)])

    def of(self, wanted: Training) -> Cost | None:
        """What is left of a run, without what each stage ends with: statistics, and the test.

        Returns:
            None where nothing that is there tells.
        """
        found = wanted.look()
        if found.state == "done":
            return Cost(0.0, "done")
        done = _seconds(Run(wanted.folder)) if found.state == "begun" else {}
        left = [epoch for epoch in wanted.epochs() if epoch not in done]
        number = {name: stage.epochs for name, stage in stages_of(wanted.config).items()}
        options, here = _of_cost(wanted.config), _machine(wanted.config)
        for kind, every in (("epochs", self._runs()), ("steps", self._timed())):
            alike = [each for each in every if (each.options, each.machine) == (options, here)]
            took = {
                stage: [each for known in alike for each in known.took.get(stage, ())]
                for stage in number
            }
            if all(took[stage] for stage, _ in left):
                seconds = (_expected(took[s], (e - 0.5) / number[s]) for s, e in left)
                return Cost(sum(seconds), _how(kind, [each.name for each in alike]))
        return None

    def untimed(self, jobs: Iterable[Job]) -> list[list[Training]]:
        """The runs whose cost nothing that is there tells; those of one cost together."""
        found: list[tuple[dict[str, Any], list[Training]]] = []
        for job in jobs:
            if not isinstance(job, Training) or job.look().state not in ("missing", "begun"):
                continue
            options = _of_cost(job.config)
            if (alike := next((runs for of, runs in found if of == options), None)) is not None:
                alike.append(job)
            elif self.of(job) is None:
                found.append((options, [job]))
        return [runs for _, runs in found]

    def time(self, wanted: Training, data: Data) -> None:
        """Time a few steps of a run on its images, and keep what they took beside the runs.

        Raises:
            UserError: a network that cannot be built, or images that it cannot be trained on.
        """
        file = wanted.out / FILE
        machine, options = _machine(wanted.config), _of_cost(wanted.config)
        entry = {"machine": machine, "options": options, "seconds": timed(wanted.config, data)}
        wanted.out.mkdir(parents=True, exist_ok=True)
        files.write(file, json.dumps({**_kept(file), wanted.label: entry}, indent=1) + "\n")

    def _timed(self) -> Iterator[Known]:
        for folder in self.folders:
            for name, entry in _kept(folder / FILE).items():
                took = {
                    stage: [
                        Took((number + 0.5) / len(seconds), each)
                        for number, each in enumerate(seconds)
                        if number or len(seconds) == 1  # the first one warms up
                    ]
                    for stage, seconds in entry["seconds"].items()
                }
                yield Known(name, entry["options"], entry["machine"], took)

    def _runs(self) -> Iterator[Known]:
        for path in (p for folder in self.folders for p in sorted(folder.glob("*/metrics.jsonl"))):
            written = path.stat().st_mtime_ns
            if path not in self._read or self._read[path][0] != written:
                try:
                    self._read[path] = written, _known(Run.open(path.parent))
                except (UserError, KeyError):
                    continue
            yield self._read[path][1]


def _known(run: Run) -> Known:
    """What is known of a run: of one that is not finished, the epochs so far.

    Raises:
        UserError, KeyError: files that are damaged, or of an older version.
    """
    config = run.config()
    there = run.read_summary() if run.summary.is_file() else load_checkpoint(run.last)
    number = {name: stage.epochs for name, stage in stages_of(config).items()}
    took: dict[str, list[Took]] = {name: [] for name in number}
    for (stage, epoch), seconds in _seconds(run).items():
        took[stage].append(Took((epoch - 0.5) / number[stage], seconds))
    machine = {name: there["environment"][name] for name in MACHINE}
    return Known(run.folder.name, _of_cost(config), machine, took)


def _seconds(run: Run) -> dict[tuple[str, int], float]:
    """The seconds of each epoch, by stage and number."""
    return {(r["stage"], r["epoch"]): r["seconds"] + r["eval_seconds"] for r in run.records()}


def _expected(took: Sequence[Took], at: float) -> float:
    """The seconds of an epoch: what those took that were nearest to it in the course of a stage."""
    nearest = min(abs(each.at - at) for each in took) + 1e-9
    return statistics.fmean(each.seconds for each in took if abs(each.at - at) <= nearest)


def _how(kind: str, names: Sequence[str]) -> str:
    if kind == "steps":
        return f"{TIMED_STEPS} timed steps an epoch"
    others = f" and {len(names) - 2} more" if len(names) > 3 else ""
    return f"epochs of {', '.join(names[:2] if others else names)}{others}"


def _of_cost(config: Config) -> dict[str, Any]:
    """The options that the time of an epoch depends on, in terms of JSON."""
    own = {
        name: value
        for name, value in (decisive(config) | places_of_images(config)).items()
        if name not in REPEATED and not OF_NO_COST.fullmatch(name)
    }
    found: dict[str, Any] = json.loads(json.dumps(own))
    return found


def _machine(config: Config) -> dict[str, Any]:
    here = environment(choose_device(config.of(RunOptions).device))
    return {**{name: here[name] for name in MACHINE}, "threads": THREADS}


def _kept(file: Path) -> dict[str, Any]:
    """What was timed; nothing of a damaged file, as it is soon timed again."""
    if not file.is_file():
        return {}
    try:
        kept: dict[str, Any] = read_json(file, TIMED)
    except UserError:
        return {}
    return kept
