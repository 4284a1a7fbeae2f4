"""A table in one setting: the jobs that its rows need, and the rows that they fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltvr.errors import UserError
from ltvr.jobs.children import Job
from ltvr.jobs.images import SameImages
from ltvr.jobs.training import Training
from ltvr.reproduction.catalogue import Row, Setting, Table
from ltvr.reproduction.comparison import Line, compare
from ltvr.reproduction.heads import Heads
from ltvr.reproduction.wanted import Wants
from ltvr.stages.options import TrainingOptions

__all__ = ["Sheet", "each_once"]


@dataclass(frozen=True)
class Sheet:
    """A table, and for each row and seed the job that fills it.

    Attributes:
        jobs: by label of the row and seed.
    """

    table: Table
    setting: Setting
    seeds: tuple[int, ...]
    jobs: Mapping[tuple[str, int], Job]

    @classmethod
    def of(cls, table: Table, wants: Wants, seeds: Sequence[int], *, every: bool) -> Sheet:
        """Plan a table.

        Args:
            wants: makes the runs.
            seeds: of the runs that are repeated; the others take the first.
            every: whether all runs are repeated.

        Raises:
            UserError: a row of a method, a stage or an option that there is not.
        """
        jobs: dict[tuple[str, int], Job] = {}
        for row in table.rows:
            repeated = every or wants.catalogue.runs[row.run].repeated
            for seed in seeds if repeated else seeds[:1]:
                jobs[row.label, seed] = _job(table, row, wants, seed)
        return cls(table, wants.setting, tuple(seeds), jobs)

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.table.name}-{self.setting.name}"

    def lines(self, failed: Mapping[Job, str]) -> list[Line]:
        """The rows, filled in from what is there now; a run of other images lacks, and why.

        Args:
            failed: why jobs could not be done.
        """
        found: dict[str, dict[int, dict[str, Any]]] = {}
        missing: dict[str, dict[str, str]] = {}
        same = SameImages()
        for (label, seed), job in self.jobs.items():
            row, there = self.table.row(label), job.look()
            try:
                if there.state == "done":
                    run = job if isinstance(job, Training) else job.needs
                    if isinstance(run, Training):
                        same.hold(run)
                    found.setdefault(label, {})[seed] = job.metrics(row.shows)
                    continue
                why = failed.get(job) or there.why or _NOT_THERE[there.state]
            except UserError as error:
                why = str(error)
            missing.setdefault(label, {})[job.name] = why
        dataset = None if self.setting.differs else self.setting.dataset
        return compare(self.table, dataset, found, missing)

    def runs(self) -> list[Training]:
        """The runs that it needs, each once."""
        return [job for job in each_once(self.jobs.values()) if isinstance(job, Training)]

    def empty(self, *, finished: bool) -> str | None:
        """Why none of its runs is there, finished if that is asked; None if one is."""
        found = [run.look() for run in self.runs()]
        there = {"done"} if finished else {"done", "begun"}
        if any(each.state in there for each in found):
            return None
        if others := [each.why for each in found if each.state == "in the way"]:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            return f"no run of it is there, but {others[0]}{more}"
        folders = dict.fromkeys(str(run.folder.parent) for run in self.runs())
        which = "finished run" if finished else "run"
        return f"no {which} of it is in {', '.join(folders)}; --out says where runs are"


_NOT_THERE = {"missing": "not begun", "begun": "begun, and not finished"}


def each_once(jobs: Iterable[Job]) -> list[Job]:
    """Jobs with what they need before them, each once."""
    found: dict[Job, None] = {}

    def add(job: Job) -> None:
        if job.needs is not None:
            add(job.needs)
        found.setdefault(job)

    for job in jobs:
        add(job)
    return list(found)


def _job(table: Table, row: Row, wants: Wants, seed: int) -> Job:
    run = wants.run(row.run, seed)
    if row.head:
        every = [Heads(each) for each in wants.again(run)]
        return next((heads for heads in every if heads.look().state == "done"), every[-1])
    stages = run.config.of(TrainingOptions).stages
    if row.result not in stages:
        raise UserError(f"{run.label} has no stage {row.result!r}, but {', '.join(stages)}")
    return wants.again(run)[-1] if table.weights else run
