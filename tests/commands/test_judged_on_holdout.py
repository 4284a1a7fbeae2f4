"""A run with a hold-out: every command judges it on that and says so, never on the test set."""

import csv
import json
import shutil

import pytest
from conftest import records, summary, tiny_config

import ltvr.compare
import ltvr.engine.trainer
import ltvr.evaluate
import ltvr.heads
import ltvr.report
import ltvr.train
import ltvr.training
from ltvr.data import datasets
from ltvr.data.datasets import load_data
from ltvr.runs.checkpoint import load_checkpoint
from ltvr.runs.folder import Run

HELD = {"holdout": 10, "select": "best"}
NUMBER = 75
"""Images of the hold-out of ``tiny_config``: of the four smallest classes half."""


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The folder of a run with a hold-out, in which no test image was read."""
    load, folder = datasets.load_built_in, tmp_path_factory.mktemp("runs") / "held"

    def without_test(options, names):
        assert "test" not in names
        return load(options, names)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "load_built_in", without_test)
        ltvr.training.train(tiny_config(**HELD), folder)
    return folder


def test_records_summary_manifest_and_page_say_so(held):
    metrics, run = summary(held)["metrics"], Run.open(held)
    assert [r["evaluated_on"] for r in records(held)] == ["hold-out"] * 3
    assert [each["evaluated_on"] for each in metrics.values()] == ["hold-out"] * 2
    assert run.manifest()["splits"].keys() == {"train", "hold-out"}
    data = load_data(tiny_config(**HELD))
    assert len(data.test) == NUMBER
    assert run.manifest()["holdout"]["counts"] == [(data.test.labels == k).sum() for k in range(10)]
    assert summary(held)["train_counts"] == data.counts.tolist()
    (line,) = [each for each in summary(held)["protocol"] if each["check"] == "images"]
    assert line["found"].startswith(f"judged on a hold-out of {len(data.test)} images of the train")
    page = run.report.read_text()
    assert line["found"] in page and "top-1, hold-out, %" in page and "± s.e." in page
    assert "on the hold-out images" in page and "test images" not in page


@pytest.mark.parametrize(("holdout", "best"), [(10, 1), (0, 2)])
def test_the_best_epoch_of_a_hold_out_is_that_of_balanced_accuracy(
    holdout, best, tmp_path, monkeypatch, no_report
):
    """The first epoch is better by balanced accuracy, the second by that of all images."""
    measured, at = ltvr.engine.trainer.evaluate_split, iter([(90.0, 10.0), (10.0, 90.0)])

    def evaluated(*given, **options):
        found = measured(*given, **options)
        balanced, of_all = next(at, (50.0, 50.0))
        return {**found, "balanced_accuracy": balanced, "all": of_all}

    monkeypatch.setattr("ltvr.engine.trainer.evaluate_split", evaluated)
    config = tiny_config(holdout=holdout, select="best", stages="features")
    ltvr.training.train(config, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "best-features.pt")["epoch"] == best - 1


def test_the_lines_and_the_table_of_training(command, tmp_path):
    options = ("--epochs", 1, "--stages", "features", "--holdout", 10, "--holdout-fold", 1)
    code, out, note = command(ltvr.train, *options, "--out", tmp_path, "--batchnorm-images", 0)
    assert code == 0, note
    lines = out.splitlines()
    assert note.startswith("judged on a hold-out of 82 images of the training set, never on")
    assert note.count("\n") == 1
    assert "hold-out: balanced " in lines[3] and " ± " in lines[3] and "test:" not in out
    assert any(line.startswith("top-1, hold-out, %    balanced") for line in lines)
    code, _, err = command(ltvr.train, *options, "--dry-run")
    assert (code, err) == (0, note)
    code, _, err = command(ltvr.train, "--holdout-fold", 1)
    assert code == 2 and "--holdout-fold changes nothing with holdout = 0.0; drop it, or set" in err


def test_evaluate_on_the_hold_out_and_on_purpose_on_the_test_set(held, finished, command, tmp_path):
    def evaluated(*words):
        code, out, err = command(ltvr.evaluate, *words, "--json", tmp_path / "metrics.json")
        assert code == 0, err
        return json.loads((tmp_path / "metrics.json").read_text()), out, err

    own, out, _ = evaluated(held)
    expected = summary(held)["metrics"]["crt"]
    assert own.pop("classes") and own == {k: expected[k] for k in own}
    assert out.startswith("top-1, hold-out, %") and "hold-out  " in out.splitlines()[1]
    assert evaluated(held, "--split", "hold-out")[0]["all"] == own["all"]
    tested, out, err = evaluated(held, "--split", "test")
    assert tested["evaluated_on"] == "test" and out.startswith("top-1, %  ")
    assert f"test images, and {held} was judged on a hold-out" in err
    assert sum(tested["per_class"]) / 10 == pytest.approx(tested["all"])  # balanced: the real one
    both, out, _ = evaluated(held, finished)
    assert [both[str(run)]["evaluated_on"] for run in (held, finished)] == ["hold-out", "test"]
    assert "top-1, hold-out, %" in out and "\n\ntop-1, %  " in out  # a table each
    code, _, err = command(ltvr.evaluate, finished, "--split", "hold-out")
    assert code == 2 and "has no hold-out; use --split test" in err


def test_heads_are_judged_on_it(held, command, tmp_path):
    run = shutil.copytree(held, tmp_path / "run")
    code, out, err = command(ltvr.heads, run, "--heads", "joint", "tau-norm")
    assert code == 0, err
    assert f"Judged on a hold-out of {NUMBER} images of the training set, never on the" in out
    found = json.loads((run / "heads.json").read_text())
    joint, tau = found["heads"]
    features = summary(held)["metrics"]["features"]
    assert found["evaluated_on"] == "hold-out"
    for name in ("all", "balanced_accuracy", "balanced_accuracy_error"):
        assert joint["chosen"]["metrics"][name] == pytest.approx(features[name])
    assert "hold-out optimum, optimistic" in tau and "(hold-out optimum, optimistic)" in out
    assert "test images" not in out and "test optimum" not in out
    rows = list(csv.DictReader((run / "heads.csv").open(newline="")))
    assert float(rows[0]["balanced_accuracy"]) == pytest.approx(
        features["balanced_accuracy"], abs=1e-4
    )
    assert "top-1, hold-out, %" in (run / "heads.md").read_text()


def test_compare_takes_runs_of_one_hold_out_alone(held, finished, command, tmp_path):
    code, _, err = command(ltvr.compare, finished, held)
    assert code == 2 and "was judged on a hold-out, and " in err and "on the test set: their" in err
    ltvr.training.train(tiny_config(**HELD, method="baseline"), tmp_path / "other")
    ltvr.training.train(
        tiny_config(**HELD, holdout_fold=1, stages="features", epochs=0), tmp_path / "fold"
    )
    code, _, err = command(ltvr.compare, held, tmp_path / "fold")
    assert code == 2 and "has other hold-out images than" in err
    page = tmp_path / "page.html"
    code, out, err = command(ltvr.compare, held, tmp_path / "other", "--out", page)
    assert code == 0, err
    assert f"judged on a hold-out of {NUMBER} images of the training set, never on the" in err
    assert "chose its epoch on the hold-out that it is judged on: optimistic" in err
    heading, before, after, gain = (line.split() for line in out.splitlines()[:4])
    assert heading[1:3] == ["balanced", "All"]
    one, two = (
        summary(run)["metrics"]["features"]["balanced_accuracy"]
        for run in (held, tmp_path / "other")
    )
    assert (float(before[-5]), float(after[-5])) == pytest.approx((one, two), abs=0.006)
    assert float(gain[1].replace("\N{MINUS SIGN}", "-")) == pytest.approx(two - one, abs=0.006)
    assert "hold-out images: McNemar" in page.read_text()


def test_the_report_is_made_anew_and_a_run_goes_on_without_the_test_set(
    held, command, tmp_path, monkeypatch
):
    load = datasets.load_built_in
    monkeypatch.setattr(
        datasets, "load_built_in", lambda o, names: load(o, [n for n in names if n != "test"])
    )
    run = shutil.copytree(held, tmp_path / "run")
    page = (run / "report.html").read_text()
    assert command(ltvr.report, run)[0] == 0
    assert (run / "report.html").read_text() == page
    (run / "summary.json").unlink()
    code, _, err = command(ltvr.train, "--resume", run)
    assert code == 0, err
    assert summary(run)["metrics"] == summary(held)["metrics"]


def test_a_manifest_that_has_lost_its_hold_out_is_a_line(held, command, tmp_path):
    run = shutil.copytree(held, tmp_path / "run")
    value = json.loads((run / "manifest.json").read_text())
    del value["holdout"]
    (run / "manifest.json").write_text(json.dumps(value))
    code, _, err = command(ltvr.report, run, "--no-masks")
    assert code == 2 and "manifest.json lacks holdout" in err
