"""What came out beside what the paper has: means, spreads, gains paired by seed, and its claims."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from ltvr.comparison.paired import over_seeds
from ltvr.comparison.spread import Spread
from ltvr.engine.accuracy_table import SUBSETS
from ltvr.reproduction.catalogue import Claim, Row, Table

__all__ = ["Line", "Verdict", "compare", "judge"]

Metrics = Mapping[str, float | None]
"""Percent by column; None where a subset has no class."""


@dataclass(frozen=True)
class Line:
    """A row of a table, filled in."""

    row: Row
    paper: Metrics
    by_seed: Mapping[int, Metrics]
    """What we have, by seed."""
    over: str
    """The label of the row that it is a gain over."""
    paper_gain: float | None
    gains: Spread | None
    """Over the other row on All, paired by seed; None of that row itself, or without a seed that
    both have."""
    missing: Mapping[str, str]
    """What is not there of it, and why, by the name of the job or of the row."""

    def ours(self, column: str) -> Spread | None:
        """The values of a column, where there are any."""
        values = [m[column] for m in self.by_seed.values() if m[column] is not None]
        return Spread(tuple(v for v in values if v is not None)) if values else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, on All."""
        ours, paper = self.ours("all"), self.paper.get("all")
        return None if ours is None or paper is None else ours.mean - paper


@dataclass(frozen=True)
class Verdict:
    """A claim, and whether it holds here."""

    claim: Claim
    paper: float | None
    """How far the one row is above the other there."""
    ours: Spread | None
    """The same here, by seed."""
    verdict: str


def compare(
    table: Table,
    dataset: str | None,
    found: Mapping[str, Mapping[int, Metrics]],
    missing: Mapping[str, Mapping[str, str]],
) -> list[Line]:
    """Fill a table in.

    Args:
        dataset: whose numbers of the paper are meant; None: of no data set.
        found: by label of the row and seed.
        missing: why jobs are not done, by label of the row and name of the job.
    """
    paper = {row.label: _by_column(row.paper.get(dataset or "")) for row in table.rows}
    lines = []
    for row in table.rows:
        over = table.over[row.shows]
        here = row.label != over
        gain = _minus(paper[row.label].get("all"), paper[over].get("all")) if here else None
        pairs = _paired(found, row.label, over, "all") if here else None
        lines.append(
            Line(
                row,
                paper[row.label],
                found.get(row.label, {}),
                over,
                gain,
                pairs,
                missing.get(row.label, {}),
            )
        )
    return lines


def judge(table: Table, dataset: str, lines: Sequence[Line]) -> list[Verdict]:
    """Does each claim hold here?

    It holds, or the opposite does, where 0 is outside the confidence interval of the difference
    (Student's t, 95 %). Several seeds give the interval themselves, paired; of a single one, or of
    several with equal differences, the spread is taken that the rows of the same kind with several
    seeds have, pooled, times the root of 2, as of two independent runs; of rows with the same
    numbers, which are of the same runs, one counts. Else it is not decided. Where the interval
    leaves out the paper's difference the verdict says so.
    """
    found = {line.row.label: line.by_seed for line in lines}
    verdicts = []
    for claim in table.claims:
        above, below = (table.row(label) for label in (claim.above, claim.below))
        here = [_by_column(row.paper.get(dataset)).get(claim.column) for row in (above, below)]
        ours = _paired(found, claim.above, claim.below, claim.column)
        half = _half_width(ours, claim, lines)
        paper = _minus(*here)
        verdicts.append(Verdict(claim, paper, ours, _verdict(ours, half, paper)))
    return verdicts


def _verdict(ours: Spread | None, half: float | None, paper: float | None) -> str:
    if ours is None:
        return "not measured"
    if half is None:
        return "not decided: no spread to hold it against"
    outside = paper is not None and abs(ours.mean - paper) > half
    width = f"± {half:.2f}" + (", which leaves out the paper's" if outside else "")
    if abs(ours.mean) <= half:
        return f"not decided: within {width}"
    return f"{'holds' if ours.mean > 0 else 'does not hold: the opposite does'}, {width}"


def _half_width(ours: Spread | None, claim: Claim, lines: Sequence[Line]) -> float | None:
    """Half of the confidence interval of a mean difference; None where no spread is known."""
    if ours is None:
        return None
    if len(ours.values) > 1:
        half = over_seeds([0.0] * len(ours.values), ours.values).half
        if half is not None:  # or the differences are equal, and do not tell their spread
            return half
    shows = {line.row.shows for line in lines if line.row.label in (claim.above, claim.below)}
    spreads = [line.ours(claim.column) for line in lines if line.row.shows in shows]
    several = dict.fromkeys(s for s in spreads if s is not None and s.deviation is not None)
    freedom = sum(len(s.values) - 1 for s in several)
    if not freedom:
        return None
    squares = sum(statistics.variance(s.values) * (len(s.values) - 1) for s in several)
    return float(stats.t.ppf(0.975, freedom)) * math.sqrt(2 * squares / freedom)


def _paired(
    found: Mapping[str, Mapping[int, Metrics]], above: str, below: str, column: str
) -> Spread | None:
    """The differences of two rows on the seeds that both have."""
    one, other = found.get(above, {}), found.get(below, {})
    pairs = [(one[seed][column], other[seed][column]) for seed in one if seed in other]
    values = tuple(a - b for a, b in pairs if a is not None and b is not None)
    return Spread(values) if values else None


def _by_column(numbers: Sequence[float | None] | None) -> Metrics:
    return dict(zip(SUBSETS, numbers, strict=True)) if numbers else {}


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
