"""What came out of a sweep so far: a line for each configuration of each rung."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltvr.comparison.paired import over_seeds
from ltvr.comparison.spread import Spread
from ltvr.data.holdout import described
from ltvr.data.options import DataOptions
from ltvr.jobs.images import SameImages
from ltvr.jobs.training import Training
from ltvr.runs.folder import Run
from ltvr.stages.build import stages_of
from ltvr.sweeping.configurations import Configuration, Design
from ltvr.sweeping.plan import Repeat

__all__ = ["Line", "LineGain", "Result", "Results", "Rung"]


@dataclass(frozen=True)
class Result:
    """What a finished run has."""

    metrics: Mapping[str, Any]
    """Of the stage that it is judged by."""
    seconds: float
    """Of training and evaluation, by one thread."""
    judged_on: str
    """The images, for a reader."""
    trained_on: str
    """The machine, for a reader."""


@dataclass(frozen=True)
class LineGain:
    """What a configuration has over another one, paired by seed."""

    mean: float
    half: float | None
    """The 95 % interval is ``mean``, less or more this; None of one seed, or of equal gains."""


@dataclass(frozen=True)
class Line:
    """A configuration on a rung."""

    configuration: Configuration
    metric: str
    """That it is judged by."""
    runs: Mapping[Repeat, Training]
    found: Mapping[Repeat, Result]
    diverged: Mapping[Repeat, str]
    """What the run said."""

    @property
    def complete(self) -> bool:
        """Whether every run of it has ended."""
        return len(self.found) + len(self.diverged) == len(self.runs)

    @property
    def epochs(self) -> dict[str, int]:
        """By stage."""
        config = next(iter(self.runs.values())).config
        return {name: stage.epochs for name, stage in stages_of(config).items()}

    def spread(self, metric: str) -> Spread | None:
        """The values of a metric in the runs that are finished, where there are any."""
        values = [result.metrics[metric] for result in self.found.values()]
        known = tuple(value for value in values if value is not None)
        return Spread(known) if known else None

    @property
    def score(self) -> float | None:
        """The mean of what it is judged by; None before every run is finished."""
        spread = self.spread(self.metric)
        return spread.mean if spread and len(spread.values) == len(self.runs) else None

    @property
    def error(self) -> float | None:
        """Standard error of the balanced accuracy they are judged by: which images are held out.

        Runs on the same images have the same error, of which a mean is not rid; with folds each run
        has images of its own.
        """
        if self.metric != "balanced_accuracy":
            return None
        errors = [result.metrics["balanced_accuracy_error"] for result in self.found.values()]
        if not errors:
            return None
        squares = math.sqrt(statistics.fmean(error**2 for error in errors))
        folds = {repeat.fold for repeat in self.found}
        return squares / math.sqrt(len(folds))

    @property
    def seconds(self) -> float | None:
        """The mean of the runs."""
        return statistics.fmean(r.seconds for r in self.found.values()) if self.found else None

    def over(self, other: Line) -> LineGain | None:
        """Its gain over another line, on the seeds that both have."""
        seeds = [repeat for repeat in self.found if repeat in other.found]
        before, after = (
            [line.found[seed].metrics[self.metric] for seed in seeds] for line in (other, self)
        )
        if not seeds or None in (*before, *after):
            return None
        if len(seeds) == 1:
            return LineGain(after[0] - before[0], None)
        gain, half, _ = over_seeds(before, after)
        return LineGain(gain, half)


@dataclass(frozen=True)
class Rung:
    """The configurations that are tried for the same number of epochs."""

    number: int
    lines: Sequence[Line]

    @property
    def complete(self) -> bool:
        """Whether every run of it has ended."""
        return all(line.complete for line in self.lines)

    @property
    def stuck(self) -> bool:
        """Whether every run of it has ended, and no configuration has a score."""
        return self.complete and all(line.score is None for line in self.lines)

    def best(self, arm: str | None = None) -> Line | None:
        """The line of the highest score, of equal ones the first; if that is said, of an arm."""
        lines = [line for line in self.lines if arm in (None, line.configuration.arm.name)]
        scored = [line for line in lines if line.score is not None]
        return max(scored, key=lambda line: line.score or 0.0, default=None)


@dataclass
class Results:
    """Reads what is there of a sweep; of a run that is finished, once."""

    design: Design
    out: Path
    """The folder of run folders."""
    _trainings: dict[tuple[Configuration, int, Repeat], Training] = field(default_factory=dict)
    _found: dict[Training, Result] = field(default_factory=dict)
    _same: SameImages = field(default_factory=SameImages)

    def rungs(self) -> list[Rung]:
        """The rungs as far as it is known who is on them: on the first one all.

        A rung of which nothing can go on is the last.

        Raises:
            UserError: a finished run of other images than another one of the same data.
        """
        sweep, every = self.design.sweep, self.design.configurations
        found = [self._rung(0, every)]
        while found[-1].complete and len(found) < len(sweep.rungs):
            assert sweep.halving is not None
            lines = found[-1].lines
            own = found[-1].best(sweep.compare_with) if sweep.compare_with else None
            always = [at for at, line in enumerate(lines) if line is own]
            scores = [line.score for line in lines]
            chosen = sweep.halving.going_on(scores, len(every), len(found), always)
            if not chosen:
                break
            found.append(self._rung(len(found), [lines[at].configuration for at in chosen]))
        return found

    def _rung(self, number: int, configurations: Sequence[Configuration]) -> Rung:
        return Rung(number, [self._line(each, number) for each in configurations])

    def _line(self, configuration: Configuration, rung: int) -> Line:
        sweep = self.design.sweep
        runs = {repeat: self._training(configuration, rung, repeat) for repeat in sweep.repeats}
        found, diverged = {}, {}
        for repeat, run in runs.items():
            if run not in self._found and run.look().state == "done":
                self._same.hold(run)
                self._found[run] = _result(run, sweep.stage)
            if run in self._found:
                found[repeat] = self._found[run]
            elif why := run.diverged():
                diverged[repeat] = why
        return Line(configuration, sweep.metric, runs, found, diverged)

    def _training(self, configuration: Configuration, rung: int, repeat: Repeat) -> Training:
        key = configuration, rung, repeat
        if key not in self._trainings:
            self._trainings[key] = self.design.training(configuration, rung, repeat, self.out)
        return self._trainings[key]


def _result(training: Training, stage: str | None) -> Result:
    run = Run(training.folder)
    metrics = training.metrics(stage or list(stages_of(training.config))[-1])
    counts = run.manifest()["holdout"]["counts"]
    judged_on = described(training.config.of(DataOptions), counts)
    trained_on = ", ".join(f"{name} {value}" for name, value in training.environment().items())
    return Result(metrics, run.read_summary()["seconds"], judged_on, trained_on)
