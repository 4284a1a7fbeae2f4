"""A run as a job: what it is to be, the command that trains it, and what is there of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ltvr.config.command_line import words
from ltvr.config.config import Config
from ltvr.engine.trained import trained_features
from ltvr.errors import UserError, brief
from ltvr.jobs.children import Found
from ltvr.jobs.places import other_images
from ltvr.networks.weights import digest
from ltvr.runs.folder import Run
from ltvr.runs.origin import STARTS_FROM, not_compared
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["REPEATED", "Training", "decisive"]

REPEATED = ("seed", "holdout_fold")
"""Options in which runs of one label may differ."""
AGAIN = "again"
"""The folder, beside finished runs, of those among them that are trained once more for weights."""


@dataclass(frozen=True, eq=False)
class Training:
    """One run. There is one object of each."""

    label: str
    """Of the runs that differ from it in options of ``REPEATED`` alone."""
    name: str
    """Of the run folder; it begins with the label."""
    out: Path
    """The folder that the run folder is in."""
    preset: str
    """A name, or a YAML file."""
    method: str
    """A name, or a YAML file."""
    options: Mapping[str, Any]
    """By name, over preset and method, as they are said on the command line."""
    config: Config
    """What these give."""
    source: Training | None = None
    """The run whose trained features it starts from."""
    fork: Training | None = None
    """The run that stopped at the end of an epoch of the first stage, from which it goes on."""
    stop_after: int | None = None
    """The epoch of the first stage at whose end it is done, for others to fork from it."""
    instead_of: Training | None = None
    """The same run, finished, whose weights are gone: it is trained once more, for them."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.out / self.name

    @property
    def log(self) -> Path:
        """What training says; the lock of the file says who trains."""
        return self.out / f"{self.name}.log"

    @property
    def needs(self) -> Training | None:
        """The run that it starts from."""
        return self.source or self.fork

    def look(self) -> Found:
        """Look at the run folder: is the run there, as it is to be, and finished?"""
        run = Run(self.folder)
        try:
            if not run.resumable and not run.summary.is_file():
                run.refuse_taken()
                return Found("missing")
            if differs := self._difference(run):
                return Found("in the way", f"{run.folder} is another run: {differs}")
        except UserError as error:
            return Found("in the way", str(error))
        done = run.finished if self.stop_after is None else self._stands(run)
        return Found("done" if done else "begun")

    def again(self) -> Training | None:
        """The same run once more, beside it, if it is finished and its weights are gone."""
        if self.look().state != "done" or trained_features(Run.open(self.folder)).is_file():
            return None
        return replace(self, out=self.out / AGAIN, instead_of=self)

    def _stands(self, run: Run) -> bool:
        """Whether it has come to where it is to stop."""
        try:
            state, _ = run.peek()
        except UserError:
            return False
        first = self.config.of(TrainingOptions).stages[0]
        return (state["stage"], state["epoch"], state["step"]) == (first, self.stop_after, 0)

    def _difference(self, run: Run) -> str:
        """The first thing in which a run is not the wanted one, and what to do; empty for none."""
        there, here = decisive(Run.open(run.folder).config()), decisive(self.config)
        for name in {**here, **there}:
            old, new = there.get(name, "not in use"), here.get(name, "not in use")
            if old != new:
                differ = f"{name} = {brief(old)} there, and {brief(new)} is wanted"
                return f"{differ}; say the same, or name another --out"
        if other := other_images(run, self.config):
            return f"{other}; name another --out"
        if self.source is None:
            return ""
        recorded = run.manifest().get("source", {}).get("sha256")
        weights = trained_features(Run.open(self.source.folder))
        if weights.is_file() and recorded != digest(weights):
            return f"it started from other weights than {weights}; name another --out"
        return ""

    def command(self, found: Found) -> list[str]:
        """The arguments of Python that train it, or go on with what has begun."""
        if found.state == "begun":
            go_on = ["--resume", str(self.folder), *self.places(), *self._end()]
            return ["-m", "ltvr.train", *go_on]
        said = ["--preset", self.preset, "--method", self.method, *words(self.options)]
        said += ["--out", str(self.out), "--name", self.name]
        said += [] if self.source is None else ["--from", str(self.source.folder)]
        said += [] if self.fork is None else ["--fork", str(self.fork.folder)]
        return ["-m", "ltvr.train", *said, *self._end()]

    def _end(self) -> list[str]:
        return [] if self.stop_after is None else ["--stop-after-epoch", str(self.stop_after)]

    def epochs(self) -> list[tuple[str, int]]:
        """The stage and the number, from 1, of each epoch that it trains itself."""
        found = [
            (name, epoch)
            for name, stage in stages_of(self.config).items()
            for epoch in range(1, stage.epochs + 1)
        ]
        before = 0 if self.fork is None else self.fork.stop_after
        return found[before : self.stop_after]

    def places(self) -> list[str]:
        """Where the images are and where to train, where that was said, as options of a command."""
        names = ("root", "lists", "device")
        return words({name: self.options[name] for name in names if name in self.options})

    def diverged(self) -> str:
        """What was said when its loss was no longer a number: it would not be one again.

        It is tried again once ``diverged.txt`` in its folder is gone.
        """
        return Run(self.folder).diverged

    def environment(self) -> dict[str, Any]:
        """What the finished run was trained on."""
        found: dict[str, Any] = Run(self.folder).read_summary()["environment"]
        return found

    def metrics(self, stage: str) -> dict[str, Any]:
        """What the run reports of a stage, once it is there.

        Raises:
            UserError: it is not finished, or has no such stage.
        """
        found: dict[str, dict[str, Any]] = Run(self.folder).read_summary()["metrics"]
        if stage not in found:
            raise UserError(f"{self.folder} has no stage {stage!r}, but {', '.join(found)}")
        return found[stage]


def decisive(config: Config) -> dict[str, Any]:
    """The options in use that the result depends on, by name.

    What is idle decides nothing, and neither do labels, the device, and where images are: which
    they are is in the manifest of a run.
    """
    left_out = not_compared(config) - set(STARTS_FROM)
    return {k: v for k, v in config.effective().items() if k not in left_out}
