"""The command: files of one run, and the table of several."""

import csv
import json
import shutil

import pytest
from conftest import summary, tiny_config

import ltvr.probe
from ltvr.figures import plot
from ltvr.probes import linear
from ltvr.training import train

KINDS = ("md", "csv", "json")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "baseline"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ltvr.training.write_report", lambda *_: None)
        train(tiny_config(method="baseline"), folder)
    return folder


def lines_of(path):
    rows = csv.DictReader(path.read_text().splitlines())
    return {
        (row["run"], row["probe"], row["space"], row["measure"], row["rows"]): row for row in rows
    }


@pytest.fixture
def quick(monkeypatch):
    """Without what takes seconds: the drawing of figures (test_figures.py), many strengths."""
    monkeypatch.setattr(plot, "render", lambda figure, kind: kind.encode())
    monkeypatch.setattr(linear, "STRENGTHS", (1e-3, 1e-1))


def test_two_runs_side_by_side(finished, baseline, tmp_path, command, quick):
    with_afa = shutil.copytree(finished, tmp_path / "with-afa")
    without = shutil.copytree(baseline, tmp_path / "without")
    words = ["--batches", 3, "--neighbours", 4, "--balanced-images", 20, "--out", tmp_path / "out"]
    code, out, err = command(ltvr.probe, with_afa, without, *words)
    assert code == 0, err

    found = json.loads((with_afa / "probe.json").read_text())
    probes = found["probes"]
    assert list(probes) == [
        "history", "head", "neighbours", "distances", "apart", "mask", "parts", "frozen",
    ]  # fmt: skip
    assert found["generated"]["batches"] == 3 and min(found["generated"]["rows"]) > 0
    assert probes["history"]["generation_begins"] == 2
    assert "apart" not in json.loads((without / "probe.json").read_text())["probes"]
    own = next(line for line in probes["frozen"]["lines"] if line["of"] == "its own classifier")
    expected = summary(with_afa)["metrics"]["features"]
    assert own["per_class"] == pytest.approx(expected["per_class"], abs=1e-4)
    assert own["means"]["many"] == pytest.approx(expected["many"], abs=1e-4)
    images = probes["frozen"]["images"]
    assert len(set(images["images"])) == 1 and images["of_them_seen_in_training"][-1] == 0
    parts = {(line["of"], line["space"]) for line in probes["parts"]["lines"]}
    assert {("X_class", "pooled"), ("X_var", "flat"), ("X", "pooled")} < parts

    both = lines_of(tmp_path / "out" / "probe.csv")
    for run in (with_afa, without):
        alone = lines_of(run / "probe.csv")
        assert alone.items() <= both.items() and {key[0] for key in alone} == {run.name}
        folder = run / "probe"
        drawn = [name for name in ("masks", "neighbours", "frozen") if run is with_afa]
        assert all(
            (folder / f"{n}.{kind}").stat().st_size for n in drawn for kind in ("svg", "png")
        )
    text = (tmp_path / "out" / "probe.md").read_text()
    row = "| accuracy, % | linear probe, balanced | without |"
    assert row in text and row not in (with_afa / "probe.md").read_text()
    # Printed is a summary, with the same numbers, and where all of them are.
    summarised, files = out[out.index("\n\n") :].strip().split("\n\n")
    heads, *rows = summarised.splitlines()
    assert heads.split()[-2:] == [with_afa.name, without.name] and 10 < len(rows) < 30
    of_afa, of_baseline = (
        next(
            line
            for line in json.loads((run / "probe.json").read_text())["probes"]["frozen"]["lines"]
        )
        for run in (with_afa, without)
    )
    assert rows[0].split()[-2:] == [f"{each['means']['all']:.1f}" for each in (of_afa, of_baseline)]
    assert files.splitlines() == [
        f"all of it: {folder / 'probe'}.md, .csv, .json; figures: {folder / 'probe'}"
        for folder in (with_afa, without, tmp_path / "out")
    ]
    for run in (with_afa, without):
        assert err.count(f"{run.name}: reads the test set, since it was trained without") == 1
    for figure in ("history", "parts", "frozen"):
        assert f"(probe/{figure}.png)" in text
        assert (tmp_path / "out" / "probe" / f"{figure}.png").is_file()

    # The same again, of a copy of the run alone.
    again = shutil.copytree(finished, tmp_path / "again" / "with-afa")
    code, out, err = command(ltvr.probe, again, *words[:-2])
    assert code == 0 and len(out.splitlines()) <= 30 and "/again/with-afa/probe.md" in out
    for kind in KINDS:
        assert (again / f"probe.{kind}").read_bytes() == (with_afa / f"probe.{kind}").read_bytes()


def test_of_a_hold_out_nothing_is_said_of_the_test_set(tmp_path, command, quick, no_report):
    changes = {"holdout": 4, "holdout_from": "left-out", "epochs": 1}
    train(tiny_config(method="baseline", **changes), tmp_path / "run")
    code, out, err = command(ltvr.probe, tmp_path / "run", "--balanced-images", 5)
    assert code == 0 and "reads the test set" not in out + err and "never on the test set" in err
    assert "40 judged images (the hold-out)" in (tmp_path / "run" / "probe.md").read_text()


def test_what_is_refused(finished, baseline, tmp_path, command):
    for words, said in (
        (["--neighbours", 0], "--neighbours 0: expected 1 to"),
        (["--images", 5], "--images 5: expected at least a batch, 64"),
        (["--out", tmp_path], "--out is for the table of several runs"),
        ([finished / "crt.pt"], "is of the stage crt, which has a classifier of its own already"),
    ):
        code, out, err = command(ltvr.probe, finished, *words)
        assert code == 2 and said in err and len(err.splitlines()) == 1, err
    code, out, err = command(ltvr.probe, finished, baseline, "--out", baseline)
    assert code == 2 and "is one of the runs, whose own table" in err
    assert not (finished / "probe.md").exists()
