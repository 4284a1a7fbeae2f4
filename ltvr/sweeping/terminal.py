"""What the command says in a terminal: what is to be done, what a run has, and what is best."""

from __future__ import annotations

from collections.abc import Sequence

from ltvr.jobs.children import Job
from ltvr.jobs.training import Training
from ltvr.reports.numbers import plain, spread
from ltvr.sweeping.configurations import Design
from ltvr.sweeping.plan import METRICS
from ltvr.sweeping.results import Rung
from ltvr.sweeping.tables import at_epochs, chosen, gain, reference, said_gain

__all__ = ["best", "counted", "outline", "score"]


def outline(design: Design) -> str:
    """How many configurations there are, for how long, and what decides between them."""
    sweep, number = design.sweep, len(design.configurations)
    each = f"{_many(number, 'configuration')}, {_many(len(sweep.repeats), 'run')} of each"
    if halving := sweep.halving:
        first, *later = halving.epochs
        best = (
            f", then the best {halving.number(number, rung)} at {epochs}"
            for rung, epochs in enumerate(later, 1)
        )
        each += f": all at {_many(first, 'epoch')}{''.join(best)}"
    stage = f"the stage {sweep.stage}" if sweep.stage else "the last stage"
    judged = f"judged by {METRICS[sweep.metric]} of {stage} on a hold-out, never on the test set"
    return f"sweep {sweep.name}: {each}; {judged}"


def counted(design: Design, rung: Rung, jobs: Sequence[Training]) -> str:
    """How many runs a rung has, and how many trunks these share."""
    trunks = sum(job.stop_after is not None for job in jobs)
    shared = f" and {_many(trunks, 'trunk')} that they share" if trunks else ""
    return f"{_many(len(jobs) - trunks, 'run')}{shared}{at_epochs(design, rung)}"


def score(rung: Rung, job: Job) -> str:
    """What a run has that is done; of a trunk, that it is."""
    for line in rung.lines:
        for repeat, result in line.found.items():
            value = result.metrics[line.metric]
            if line.runs[repeat].name == job.name and value is not None:
                return f"done, {METRICS[line.metric]} {plain(value, 2)} %"
    return "done"


def best(design: Design, rungs: Sequence[Rung]) -> str:
    """The best configuration; before every run has ended, that there is none yet."""
    sweep, line = design.sweep, chosen(design, rungs)
    if line is None:
        return "best: not known before every run has ended"
    over, more = reference(design, rungs[-1]), gain(design, rungs[-1], line)
    beside = f", {said_gain(more)} over {over.configuration.label}" if over and more else ""
    if over is line:
        beside = ", the arm that gains are over"
    return (
        f"best: {line.configuration.label}: {METRICS[sweep.metric]} of the hold-out "
        f"{spread(line.spread(sweep.metric))} % ({_many(len(line.found), 'run')}){beside}; chosen "
        f"among {len(design.configurations)}, which flatters it"
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
