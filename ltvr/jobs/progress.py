"""What a command says of its jobs: what is done of them, what is left, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

from ltvr.errors import UserError, shown
from ltvr.jobs.children import Job, named
from ltvr.jobs.costs import Costs
from ltvr.jobs.training import Training

__all__ = ["Progress", "duration", "show_costs"]


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
        """What is left, and for how long, as far as that is known without a probe."""
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

    Of runs whose cost nothing that is there tells one of each cost is timed.
    """
    costs, why = Costs.beside(jobs), dict[Job, str]()
    untimed = costs.untimed(jobs)
    if untimed:
        print(
            f"no run here tells what {sum(map(len, untimed))} of {len(jobs)} cost; timing a few "
            f"steps of {len(untimed)}, whose times are kept:"
        )
    for number, alike in enumerate(untimed, 1):
        print(f"{alike[0].name} ({number} of {len(untimed)})", flush=True)
        try:
            costs.time(alike[0])
        except UserError as error:
            why |= dict.fromkeys(alike, f"cannot be measured: {error}")
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
            left = f"{time:>8}  {cost.how if cost else why.get(job, 'not measured')}"
        print(f"{name:{width}}  {found.state:10} {left}{shown(found.why)}".rstrip())
    more = f", and what {unknown} of them cost is not known" if unknown else ""
    left = f"left, one run after the other: {duration(total)}{more}"
    print(f"\n{'nothing is left' if done == len(jobs) else left}")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:05:09, or seconds alone, as 53 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
