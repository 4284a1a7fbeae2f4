"""What a run costs: by runs of the same cost, by a few epochs that have all that it is to have."""

import json
import shutil
from dataclasses import replace

import pytest
from conftest import tiny_config

from ltvr.jobs import costs
from ltvr.jobs.children import THREADS
from ltvr.jobs.costs import Costs, Took, _expected
from ltvr.jobs.progress import Progress, show_costs
from ltvr.jobs.timing import _shortened
from ltvr.jobs.training import Training
from ltvr.settings import load_config
from ltvr.stages.features import FeaturesOptions, first_generating_epoch


@pytest.mark.parametrize(
    ("method", "options", "epochs"),
    [
        ("baseline", {}, 5),
        ("baseline", {"epochs": 3}, 3),
        ("baseline", {"epochs": 0}, 0),
        ("cmo", {}, 10),
        ("cmo", {"epochs": 8}, 8),
        ("ltvr", {"lay_back_start": 0.95}, 20),
        ("ce-drw", {"weighting_start": 0.95}, 20),
        ("ce-drs", {"deferred_sampler_start": 0.98}, 30),
    ],
)
def test_as_few_epochs_as_everything_begins_in(method, options, epochs):
    config = load_config("digits", method, options)
    assert _shortened(config).of(FeaturesOptions).epochs == epochs
    if method == "ltvr":
        assert 0 < first_generating_epoch(_shortened(config)) < epochs


@pytest.fixture
def there(finished, tmp_path):
    """A folder with a finished run, whose epochs took 10 and 30 seconds, and 5 of cRT."""
    run = shutil.copytree(finished, tmp_path / "runs" / "there-seed0")
    summary = json.loads((run / "summary.json").read_text())
    summary["environment"]["threads"] = THREADS
    (run / "summary.json").write_text(json.dumps(summary))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record, seconds in zip(records, (10, 30, 5), strict=True):
        record["seconds"], record["eval_seconds"] = float(seconds), 0.0
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return run.parent


def wanted(out, name="wanted", **changes):
    return Training(name, f"{name}-seed0", out, "digits", "ltvr", {}, tiny_config(**changes))


def test_a_run_of_the_same_cost_tells(there):
    """Of another seed, of another learning rate, and of another number of epochs by their share."""
    known = Costs([there])
    assert known.of(wanted(there, "there")) == (0.0, "done")
    for changes in ({"seed": 3}, {"lr": 0.1, "crt_lr": 0.2, "weight_decay": 0.0}):
        cost = known.of(wanted(there, **changes))
        assert cost.seconds == pytest.approx(45) and cost.how == "epochs of there-seed0"
    longer = wanted(there, epochs=4, crt_epochs=3)
    assert known.of(longer).seconds == pytest.approx(2 * 10 + 2 * 30 + 3 * 5)
    trunk = replace(longer, out=there.with_name("trunks"), stop_after=1)
    assert known.of(trunk).seconds == pytest.approx(10)
    assert known.of(replace(longer, fork=trunk)).seconds == pytest.approx(95 - 10)
    assert known.of(wanted(there, gamma=0.9)) is None  # more rows are generated
    assert known.of(wanted(there, batch_size=32)) is None


def test_a_run_elsewhere_tells_nothing(there):
    path = there / "there-seed0" / "summary.json"
    path.write_text(path.read_text().replace('"device": "cpu: ', '"device": "cuda: '))
    assert Costs([there]).of(wanted(there, lr=0.1)) is None


def test_an_epoch_takes_what_the_nearest_in_the_course_took():
    took = [Took(0.25, 10), Took(0.75, 30), Took(0.75, 40), Took(0.95, 50)]
    found = [_expected(took, at) for at in (0.0, 0.5, 0.7, 1.0)]
    assert found == [10, pytest.approx((10 + 30 + 40) / 3), 35, 50]


def test_runs_of_one_cost_are_timed_once_and_what_is_known_is_not(there, monkeypatch, capsys):
    gammas = []

    def timed(config, data):
        gammas.append(config.flat()["gamma"])
        return {"features": [9.0, 1.0, 1.0, 2.0, 2.0], "crt": [4.0]}

    monkeypatch.setattr(costs, "timed", timed)
    jobs = [
        wanted(there, "same", lr=0.1),
        *(wanted(there, f"more-{lr}", lr=lr, gamma=0.9) for lr in (0.1, 0.2, 0.3)),
        wanted(there, "most", gamma=0.8, epochs=5),
    ]
    show_costs(jobs)
    out = capsys.readouterr().out
    assert gammas == [0.9, 0.8] and out.startswith("no run here tells what 4 of 5 cost; ")
    assert out.index("\nmore-0.1-seed0 (1 of 2)\n") < out.index("runs/same-seed0")
    assert "  45 s  epochs of there-seed0\n" in out
    # The first of the timed epochs warms up; what is missing of it is taken from the next one.
    assert out.count("  7 s  2 timed steps an epoch\n") == 3
    assert "  11 s  2 timed steps an epoch\n" in out
    assert out.endswith("left, one run after the other: 1 min 17 s\n")
    show_costs(jobs)
    assert len(gammas) == 2 and capsys.readouterr().out.startswith("runs/same-seed0")
    for damaged in ("{", '{"more-0.1-seed0": {"seconds": 3}}'):
        (there / costs.FILE).write_text(damaged)
        gammas.clear()
        show_costs(jobs)
        assert gammas == [0.9, 0.8]


def test_what_is_left_is_counted_and_timed_as_far_as_it_is_known(there, capsys):
    jobs = [wanted(there, "there"), wanted(there, lr=0.1), wanted(there, "other", gamma=0.9)]
    progress = Progress(jobs, "3 runs")
    for job in jobs[:0:-1]:
        progress.ended(job, "done")
    assert capsys.readouterr().out.splitlines() == [
        "3 runs, 1 done, 2 left, 1 of them about 45 s one after the other",
        "runs/other-seed0: done; 1 left, about 45 s one after the other",
        "runs/wanted-seed0: done; none left",
    ]
