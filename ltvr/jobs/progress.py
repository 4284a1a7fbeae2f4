"""What a command says of its jobs: what is done of them, what is left, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

from ltvr.data.datasets import load_data
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.errors import UserError, shown
from ltvr.jobs.children import Job, named
from ltvr.jobs.costs import Costs
from ltvr.jobs.training import Training
from ltvr.reports.numbers import duration

__all__ = ["Progress", "show_costs"]


class Progress:
    """Prints how many jobs are left: at the beginning, and as they end.

    Args:
        jobs: all of them.
        what: they are, for a reader.
    """

    def __init__(self, jobs: Sequence[Job], what: str) -> None:
        self._costs = Costs.beside(jobs)
        self._left = [job for job in jobs if job.look().state != "done"]
        done = len(jobs) - len(self._left)
        print(f"{what}, {done} done, {self._said()}", flush=True)

    def ended(self, job: Job, how: str) -> None:
        """Say that a job has ended."""
        self._left = [each for each in self._left if each is not job]
        print(f"{named(job)}: {how}; {self._said()}", flush=True)

    def _said(self) -> str:
        """What is left, and for how long, as far as that is known without timing any."""
        left = self._left
        if not left:
            return "none left"
        known = [
            cost for job in left if isinstance(job, Training) and (cost := self._costs.of(job))
        ]
        if not known:
            return f"{len(left)} left"
        time = duration(sum(cost.seconds for cost in known))
        which = "" if len(known) == len(left) else f"{len(known)} of them "
        return f"{len(left)} left, {which}about {time} one after the other"


def show_costs(jobs: Sequence[Job]) -> None:
    """Print what there is of each job, and what is left of it.

    Of runs whose cost nothing that is there tells one of each cost is timed. Why runs cannot be is
    said once, behind the list.
    """
    costs = Costs.beside(jobs)
    why = _timed(costs, jobs)
    reasons = list(dict.fromkeys(why.values()))
    names = [named(job) for job in jobs]
    width = max(map(len, names), default=0)
    total, unknown, done = 0.0, 0, 0
    for name, job in zip(names, jobs, strict=True):
        found, left = job.look(), ""
        done += found.state == "done"
        if found.state in ("missing", "begun"):
            cost = costs.of(job) if isinstance(job, Training) else None
            total += cost.seconds if cost else 0.0
            unknown += cost is None
            time = duration(cost.seconds) if cost else "?"
            how = f"cannot be measured ({reasons.index(why[job]) + 1})" if job in why else ""
            left = f"{time:>11}  {cost.how if cost else how or 'not measured'}"
        print(f"{name:{width}}  {found.state:10} {left}{shown(found.why)}".rstrip())
    for number, reason in enumerate(reasons, 1):
        print(f"({number}) {shown(reason)}")
    more = f", and what {unknown} of them cost is not known" if unknown else ""
    left = f"left, one run after the other: {duration(total)}{more}"
    if unknown and not total:
        left = f"left: {unknown}, and what they cost is not known"
    print(f"\n{'nothing is left' if done == len(jobs) else left}")


def _timed(costs: Costs, jobs: Sequence[Job]) -> dict[Job, str]:
    """Time a run of each cost that is not known; return why runs cannot be.

    The images of a data set are read once, and where they cannot be, no run on them is tried.
    """
    why, known = dict[Job, str](), dict[DataOptions, Data | str]()
    untimed: list[tuple[list[Training], Data]] = []
    for alike in costs.untimed(jobs):
        options = alike[0].config.of(DataOptions)
        if options not in known:
            try:
                known[options] = load_data(alike[0].config)
            except UserError as error:
                known[options] = str(error)
        if isinstance(data := known[options], str):
            why |= dict.fromkeys(alike, data)
        else:
            untimed.append((alike, data))
    if untimed:
        print(
            f"no run here tells what {sum(len(alike) for alike, _ in untimed)} of {len(jobs)} "
            f"cost; timing a few steps of {len(untimed)}, whose times are kept:"
        )
    for number, (alike, data) in enumerate(untimed, 1):
        print(f"{alike[0].name} ({number} of {len(untimed)})", flush=True)
        try:
            costs.time(alike[0], data)
        except UserError as error:
            why |= dict.fromkeys(alike, str(error))
    return why
