"""The runs that tables need: what each is to be, the command that trains it, and what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ltvr.config.command_line import flag, refuse_unused
from ltvr.config.config import Config
from ltvr.data.built_in import BUILT_IN
from ltvr.data.options import DataOptions
from ltvr.engine.trained import trained_features
from ltvr.errors import UserError, brief
from ltvr.networks.weights import digest
from ltvr.reproduction.catalogue import Catalogue, NamedRun, Setting
from ltvr.runs.folder import Run
from ltvr.runs.origin import not_compared
from ltvr.settings import load_config

__all__ = ["Found", "State", "Wanted", "Wants", "decisive"]

STARTS_FROM = ("weights", "pretrained")
"""Not compared in a run that goes on, which has left them behind; here they decide."""


State = Literal["done", "begun", "missing", "in the way"]
"""What there is of a run, or of another job."""


class Found(NamedTuple):
    """What there is of a run, and of what is in the way, what it is."""

    state: State
    why: str = ""


@dataclass(frozen=True, eq=False)
class Wanted:
    """One run: with its data, its schedule and its seed. There is one object of each."""

    run: NamedRun
    setting: Setting
    seed: int
    out: Path
    """The folder that the run folder is in."""
    source: Wanted | None
    config: Config

    @property
    def name(self) -> str:
        """Of the run folder."""
        return f"{self.run.name}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.out / self.name

    @property
    def log(self) -> Path:
        """What training says; the lock of the file says who trains."""
        return self.out / f"{self.name}.log"

    @property
    def needs(self) -> Wanted | None:
        """The run that it starts from."""
        return self.source

    def look(self) -> Found:
        """Look at the run folder: is the run there, as it is to be, and finished?"""
        run = Run(self.folder)
        try:
            if not run.resumable and not run.summary.is_file():
                run.refuse_taken()
                return Found("missing")
            if differs := _difference(run, self):
                why = f"{run.folder} is another run: {differs}; name another --out"
                return Found("in the way", why)
        except UserError as error:
            return Found("in the way", str(error))
        return Found("done" if run.finished else "begun")

    def command(self, found: Found) -> list[str]:
        """The arguments of Python that train it, or go on with what has begun."""
        setting, run = self.setting, self.run
        if found.state == "begun":
            return ["-m", "ltvr.train", "--resume", str(self.folder), *self.places()]
        options = {**setting.options, **run.options, "seed": self.seed}
        words = ["--preset", setting.preset, "--method", run.method, *_words(options)]
        words += ["--out", str(self.out), "--name", self.name]
        words += [] if self.source is None else ["--from", str(self.source.folder)]
        return ["-m", "ltvr.train", *words]

    def places(self) -> list[str]:
        """Where the images are, where that was said, as options of a command."""
        options = self.setting.options
        return _words({name: options[name] for name in ("root", "lists") if name in options})

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


class Wants:
    """The runs of a catalogue in one setting, below one folder.

    Args:
        catalogue: names the runs.
        setting: their data and schedule.
        out: the folder of the folder of the setting.
    """

    def __init__(self, catalogue: Catalogue, setting: Setting, out: Path) -> None:
        self.catalogue, self.setting, self.out = catalogue, setting, out / setting.name
        self._found: dict[tuple[str, int], Wanted] = {}

    def run(self, name: str, seed: int) -> Wanted:
        """The run of this name and seed; of two that are to be the same, the one asked for first.

        Raises:
            UserError: a method or an option that this version lacks, or options that do not fit.
        """
        if (name, seed) not in self._found:
            wanted = self._make(self.catalogue.runs[name], seed)
            same = (other for other in self._found.values() if _same(other, wanted))
            self._found[name, seed] = next(same, wanted)
        return self._found[name, seed]

    def _make(self, run: NamedRun, seed: int) -> Wanted:
        source = None if run.source is None else self.run(run.source, seed)
        options = {**self.setting.options, **run.options, "seed": seed}
        config = load_config(self.setting.preset, run.method, options)
        refuse_unused(config, options)
        if config.of(DataOptions).holdout:
            raise UserError(
                f"{run.name}: a table is of the test set, and holdout = "
                f"{config.of(DataOptions).holdout:g} judges runs on a hold-out; leave it out"
            )
        return Wanted(run, self.setting, seed, self.out, source, config)


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


def _difference(run: Run, wanted: Wanted) -> str:
    """The first thing in which a run is not the wanted one; empty if there is none."""
    there, here = decisive(Run.open(run.folder).config()), decisive(wanted.config)
    for name in {**here, **there}:
        old, new = there.get(name, "not in use"), here.get(name, "not in use")
        if old != new:
            return f"{name} = {brief(old)} there, and {brief(new)} is wanted"
    if wanted.source is None:
        return ""
    recorded = run.manifest().get("source", {}).get("sha256")
    weights = trained_features(Run.open(wanted.source.folder))
    if weights.is_file() and recorded != digest(weights):
        return f"it started from other weights than {weights}"
    return ""


def _same(one: Wanted, other: Wanted) -> bool:
    return one.source == other.source and decisive(one.config) == decisive(other.config)


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as they are written on the command line."""
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif isinstance(value, list | tuple):
            words += [flag(name), *map(str, value)]
        else:
            words += [flag(name), str(value)]
    return words
