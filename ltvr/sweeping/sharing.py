"""The jobs of a rung: its runs, and before them the trunks that they fork from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ltvr.config.config import Config
from ltvr.engine.fork import Course
from ltvr.errors import UserError
from ltvr.jobs.places import other_images
from ltvr.jobs.training import Training
from ltvr.runs.folder import Run
from ltvr.stages.options import TrainingOptions
from ltvr.sweeping.plan import Repeat
from ltvr.sweeping.results import Rung
from ltvr.sweeping.trunks import Trunk, plan_trunks

__all__ = ["jobs_of", "of_diverged"]


def jobs_of(rung: Rung) -> list[Training]:
    """The runs of a rung but for those that have diverged, seed after seed.

    What is not begun forks from its trunk, which comes before it. Where a trunk has diverged its
    runs are trained by themselves, each to find that out.
    """
    found: list[Training] = []
    repeats = list(rung.lines[0].runs)
    courses = [_course(line.runs[repeats[0]].config) for line in rung.lines]
    trunks = plan_trunks(courses, _common)  # in what they have in common seeds do not differ
    for repeat in repeats:
        made = _Trunks([line.runs[repeat] for line in rung.lines], repeat)
        for line, trunk in zip(rung.lines, trunks, strict=True):
            run, source = line.runs[repeat], None
            if repeat in line.diverged:
                continue
            if trunk is not None and run.look().state == "missing":
                source = made.training(trunk)
            found += [each for each in _chain(source) if each not in found]
            found.append(run if source is None else replace(run, fork=source))
    return found


def of_diverged(job: Training) -> bool:
    """Whether a job, or a trunk that it needs, has diverged."""
    return bool(job.diverged()) or any(each.diverged() for each in _chain(job.fork))


def _course(config: Config) -> Course | None:
    """None of one that shares nothing: its best epoch is reported, which may be one of a trunk."""
    return None if config.of(TrainingOptions).select == "best" else Course.of(config)


def _common(a: Course | None, b: Course | None) -> int:
    return 0 if a is None or b is None else a.common(b)


def _chain(trunk: Training | None) -> list[Training]:
    """A trunk, and before it the one that it forks from."""
    return [] if trunk is None else [*_chain(trunk.fork), trunk]


@dataclass
class _Trunks:
    """The trunks of some runs of one repeat, as jobs; there is one object of each."""

    runs: list[Training]
    repeat: Repeat
    _made: dict[Trunk, Training | None] = field(default_factory=dict)

    def training(self, trunk: Trunk) -> Training | None:
        """The job that trains it; None if it, or the one that it forks from, has diverged."""
        if trunk not in self._made:
            source = None if trunk.source is None else self.training(trunk.source)
            lost = trunk.source is not None and source is None
            job = self._there(trunk) or self._new(trunk)
            if source is not None and job.look().state == "missing":
                job = replace(job, fork=source)
            self._made[trunk] = None if lost or job.diverged() else job
        return self._made[trunk]

    def _there(self, trunk: Trunk) -> Training | None:
        """One that is there, of whatever run that has the trunk's epochs in common with these."""
        like = self.runs[trunk.like]
        for folder in sorted(_folder(like).glob(f"epoch{trunk.epoch}-*-{self.repeat.name}")):
            try:
                run = Run.open(folder)
                config, other = run.config(), other_images(run, like.config)
            except UserError:
                continue
            common = 0 if other else _common(_course(config), _course(like.config))
            if run.resumable and common >= trunk.epoch:
                return self._job(trunk, folder.name, config)
        return None

    def _new(self, trunk: Trunk) -> Training:
        like = self.runs[trunk.like]
        return self._job(trunk, f"epoch{trunk.epoch}-{like.name}", like.config)

    def _job(self, trunk: Trunk, name: str, config: Config) -> Training:
        like, label = self.runs[trunk.like], name.removesuffix(f"-{self.repeat.name}")
        return replace(
            like, label=label, name=name, out=_folder(like), config=config, stop_after=trunk.epoch
        )


def _folder(run: Training) -> Path:
    """Where trunks are: beside the folder of the runs."""
    return run.out.with_name("trunks")
