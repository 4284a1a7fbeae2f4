"""A run as a job: what it is to be, the command that trains it, and what is there of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltvr.config.command_line import flag
from ltvr.config.config import Config
from ltvr.data.built_in import BUILT_IN
from ltvr.data.options import DataOptions
from ltvr.engine.trained import trained_features
from ltvr.errors import UserError, brief
from ltvr.jobs.children import Found
from ltvr.networks.weights import digest
from ltvr.runs.folder import Run
from ltvr.runs.origin import not_compared

__all__ = ["Training", "decisive"]

STARTS_FROM = ("weights", "pretrained")
"""Not compared in a run that goes on, which has left them behind; here they decide."""


@dataclass(frozen=True, eq=False)
class Training:
    """One run. There is one object of each."""

    label: str
    """Of the runs that differ from it in their seed alone."""
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
        return self.source

    def look(self) -> Found:
        """Look at the run folder: is the run there, as it is to be, and finished?"""
        run = Run(self.folder)
        try:
            if not run.resumable and not run.summary.is_file():
                run.refuse_taken()
                return Found("missing")
            if differs := self._difference(run):
                why = f"{run.folder} is another run: {differs}; name another --out"
                return Found("in the way", why)
        except UserError as error:
            return Found("in the way", str(error))
        return Found("done" if run.finished else "begun")

    def _difference(self, run: Run) -> str:
        """The first thing in which a run is not the wanted one; empty if there is none."""
        there, here = decisive(Run.open(run.folder).config()), decisive(self.config)
        for name in {**here, **there}:
            old, new = there.get(name, "not in use"), here.get(name, "not in use")
            if old != new:
                return f"{name} = {brief(old)} there, and {brief(new)} is wanted"
        if self.source is None:
            return ""
        recorded = run.manifest().get("source", {}).get("sha256")
        weights = trained_features(Run.open(self.source.folder))
        if weights.is_file() and recorded != digest(weights):
            return f"it started from other weights than {weights}"
        return ""

    def command(self, found: Found) -> list[str]:
        """The arguments of Python that train it, or go on with what has begun."""
        if found.state == "begun":
            return ["-m", "ltvr.train", "--resume", str(self.folder), *self.places()]
        words = ["--preset", self.preset, "--method", self.method, *_words(self.options)]
        words += ["--out", str(self.out), "--name", self.name]
        words += [] if self.source is None else ["--from", str(self.source.folder)]
        return ["-m", "ltvr.train", *words]

    def places(self) -> list[str]:
        """Where the images are, where that was said, as options of a command."""
        return _words({n: self.options[n] for n in ("root", "lists") if n in self.options})

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

    What is idle decides nothing, and neither do labels, the device, and where images are; but for
    images in files, where they are says which they are.
    """
    left_out = not_compared(config) - set(STARTS_FROM)
    found = {k: v for k, v in config.effective().items() if k not in left_out}
    if config.of(DataOptions).dataset not in BUILT_IN:
        values = config.flat()
        found |= {name: str(Path(values[name]).resolve()) for name in ("root", "lists")}
    return found


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as they are written on the command line."""
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif isinstance(value, list | tuple):
            words += [flag(name), *map(str, value)]
        else:
            words += [flag(name), "none" if value is None else str(value)]
    return words
