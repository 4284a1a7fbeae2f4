"""Figure 3: accuracy over t and lambda, as the summaries of runs have it."""

import csv
import json
import shutil

import pytest
from conftest import summary, tiny_config

from ltvr.errors import UserError
from ltvr.figures.plot import write
from ltvr.figures.sensitivity import Point, draw_sensitivity, points_over_lambda, points_over_t
from ltvr.runs.folder import Run
from ltvr.settings import save_config


@pytest.fixture
def of(finished, tmp_path):
    """A copy of a run that says it had these options and these accuracies."""

    def make(name, all_, crt, **options):
        folder = shutil.copytree(finished, tmp_path / name)
        save_config(tiny_config(epochs=10, **options), folder / "config.yaml")
        changed = summary(folder)
        changed["metrics"]["features"]["all"], changed["metrics"]["crt"]["all"] = all_, crt
        (folder / "summary.json").write_text(json.dumps(changed))
        return Run(folder)

    return make


def test_points_are_what_runs_say(of, tmp_path):
    over_t = [
        of("a", 40.0, 50.0, lay_back_start=0.2),
        of("b", 44.0, 51.0, lay_back_start=0.2, seed=1),
        of("c", 43.0, 53.0, lay_back_start=0.7),
    ]
    over_lambda = [of("d", 30.0, 35.0, loss_weight=0.5), of("e", 31.0, 36.0, loss_weight=2.0)]
    t, weight = points_over_t(over_t), points_over_lambda(over_lambda)
    assert t[0] == Point(2, "features", 40.0) and weight[-1] == Point(2.0, "cRT", 36.0)
    write(draw_sensitivity(t, weight), tmp_path / "fig3")
    rows = list(csv.DictReader((tmp_path / "fig3.csv").open(newline="")))
    assert [tuple(row.values()) for row in rows] == [
        ("t", "2", "features", "2", "42.0000", "2.8284"),  # 4 / sqrt 2
        ("t", "7", "features", "1", "43.0000", ""),
        ("t", "2", "cRT", "2", "50.5000", "0.7071"),
        ("t", "7", "cRT", "1", "53.0000", ""),
        ("lambda", "0.5", "features", "1", "30.0000", ""),
        ("lambda", "2", "features", "1", "31.0000", ""),
        ("lambda", "0.5", "cRT", "1", "35.0000", ""),
        ("lambda", "2", "cRT", "1", "36.0000", ""),
    ]
    assert len(draw_sensitivity([], weight).figure.axes) == 1


def test_runs_that_have_neither(of):
    with pytest.raises(UserError, match="generates nothing"):
        points_over_t([of("a", 1.0, 2.0, method="baseline")])
    unfinished = of("b", 1.0, 2.0)
    unfinished.summary.unlink()
    with pytest.raises(UserError, match="is not finished"):
        points_over_lambda([unfinished])
    with pytest.raises(UserError, match="no run over t or lambda"):
        draw_sensitivity([], [])
