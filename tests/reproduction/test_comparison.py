"""Means, spreads, paired gains and claims, against numbers worked out apart from the code."""

import numpy as np
import pytest
from scipy import stats

from ltvr.comparison.spread import Spread
from ltvr.reproduction.catalogue import Claim, Row, Table
from ltvr.reproduction.comparison import compare, judge

PAPER = {"Base": (50.0, 60.0, 40.0, None), "Other": (53.0, 61.0, 45.0, None)}
BASE = {0: 40.0, 1: 42.5, 2: 41.0}
OTHER = {0: 44.0, 1: 45.0, 2: 46.5}


def table(claims=(), labels=("Base", "Other", "Third")):
    rows = tuple(
        Row(label, label.lower(), "crt", paper={"cifar10": PAPER[label]} if label in PAPER else {})
        for label in labels
    )
    return Table("t", "T", {}, {"crt": "Base"}, rows, claims)


def found(**accuracies):
    """Metrics by row and seed, of these accuracies on All."""
    return {
        label: {
            seed: {"all": all_, "many": all_ + 1, "medium": all_ - 1, "few": None}
            for seed, all_ in by_seed.items()
        }
        for label, by_seed in accuracies.items()
    }


def test_a_line_has_mean_spread_paired_gain_and_difference():
    base, other, third = compare(table(), "cifar10", found(Base=BASE, Other=OTHER), {})
    values = np.array(list(OTHER.values()))
    assert other.ours("all").mean == pytest.approx(values.mean(), abs=1e-12)
    assert other.ours("all").deviation == pytest.approx(values.std(ddof=1), abs=1e-12)
    assert other.ours("many").mean == pytest.approx(values.mean() + 1) and not other.ours("few")
    gains = values - np.array(list(BASE.values()))
    assert other.gains.values == tuple(gains) == (4.0, 2.5, 5.5)
    assert other.gains.mean == pytest.approx(4.0) and other.gains.deviation == pytest.approx(1.5)
    assert other.paper_gain == pytest.approx(3.0)
    assert other.difference == pytest.approx(45.16666666666667 - 53.0)
    assert base.gains is None and base.paper_gain is None and base.ours("all").mean == 41 + 1 / 6
    assert third.ours("all") is None and third.gains is None and third.difference is None


def test_gains_are_of_the_seeds_that_both_have():
    lines = compare(table(), "cifar10", found(Base={1: 40.0, 2: 41.0}, Other={0: 9.0, 2: 43.5}), {})
    assert lines[1].gains == Spread((2.5,)) and lines[1].gains.deviation is None
    assert lines[1].ours("all").values == (9.0, 43.5)


def test_other_data_have_no_number_of_the_paper():
    line = compare(table(), "digits", found(Base=BASE, Other=OTHER), {})[1]
    assert line.paper == {} and line.difference is None and line.paper_gain is None
    assert line.gains.mean == pytest.approx(4.0)


def verdict(claim, **accuracies):
    lines = compare(table((claim,)), "cifar10", found(**accuracies), {})
    return judge(table((claim,)), "cifar10", lines)[0]


def test_a_claim_of_several_seeds_goes_by_the_paired_t_test():
    claim = Claim("Other", "Base")
    shift = stats.ttest_rel(list(OTHER.values()), list(BASE.values()))
    assert shift.pvalue < 0.05
    one = verdict(claim, Base=BASE, Other=OTHER)
    assert one.verdict.startswith("holds, ±") and one.paper == pytest.approx(3.0)
    opposite = verdict(claim, Base=OTHER, Other=BASE).verdict
    assert opposite.startswith("does not hold: the opposite")
    # The intervals of the two differences, 4 and -4, with and without the paper's 3 in them.
    assert opposite.endswith(", which leaves out the paper's") and "paper" not in one.verdict
    # A gain of the same size that a t-test cannot tell from none.
    wide = {0: 40.0, 1: 50.0, 2: 46.5}
    assert stats.ttest_rel(list(wide.values()), list(BASE.values())).pvalue > 0.05
    interval = stats.ttest_rel(list(wide.values()), list(BASE.values())).confidence_interval(0.95)
    half = (interval.high - interval.low) / 2
    assert verdict(claim, Base=BASE, Other=wide).verdict == f"not decided: within ± {half:.2f}"


def test_a_claim_of_one_seed_goes_by_the_pooled_spread_of_the_others():
    claim = Claim("Third", "Base")
    squares = sum(np.var(list(each.values()), ddof=1) * 2 for each in (BASE, OTHER))
    half = stats.t.ppf(0.975, 4) * np.sqrt(2 * squares / 4)
    below, above = 40.0 + half - 0.01, 40.0 + half + 0.01
    holds, not_decided = f"holds, ± {half:.2f}", f"not decided: within ± {half:.2f}"
    for value, words in ((below, not_decided), (above, holds)):
        made = verdict(claim, Base=BASE, Other=OTHER, Third={0: value})
        assert made.verdict == words and made.paper is None
    alone = verdict(claim, Base={0: 40.0}, Third={0: 80.0})
    assert alone.verdict == "not decided: no spread to hold it against"
    equal = {seed: value + 0.01 for seed, value in BASE.items()}
    assert verdict(Claim("Other", "Base"), Base=BASE, Other=equal).verdict.startswith("not decided")
    assert verdict(claim, Base=BASE).verdict == "not measured"


def test_runs_that_two_rows_show_count_once_for_the_spread():
    claim, own = Claim("Third", "Base"), found(Base=BASE, Other=OTHER, Third={0: 41.0})
    three = judge(table((claim,)), "cifar10", compare(table((claim,)), "cifar10", own, {}))
    twice = table((claim,), ("Base", "Other", "Third", "Again"))
    lines = compare(twice, "cifar10", {**own, "Again": own["Other"]}, {})
    assert judge(twice, "cifar10", lines) == three and "within" in three[0].verdict


def test_claims_of_a_column_without_classes_are_not_measured():
    made = verdict(Claim("Other", "Base", "few"), Base=BASE, Other=OTHER)
    assert made.verdict == "not measured" and made.paper is None
    made = verdict(Claim("Other", "Base", "many"), Base=BASE, Other=OTHER)
    assert made.verdict.startswith("holds")
