"""``python -m ltvr.sweep`` as a whole, on tiny runs."""

import csv
import json
import re

import pytest
from forked import FORK, fork_jobs, in_a_process

import ltvr.sweep
from ltvr.runs.folder import Run

pytestmark = pytest.mark.forks
FILE = """
name: tiny
preset: digits
options: {holdout: 10, holdout_from: left-out, image_size: 8, batch_size: 64, epochs: 2,
          crt_epochs: 1, imbalance: 100, batchnorm_images: 0, evaluate_every: 9, device: cpu}
compare_with: baseline
arms:
  baseline: {method: baseline}
  ours: {lay_back_start: 0.5}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch, command):
    """Write lines to the file and run the command: exit status, stdout, stderr."""
    fork_jobs(monkeypatch)

    def run(lines, *options):
        (tmp_path / "file.yaml").write_text(FILE + lines)
        return command(ltvr.sweep, tmp_path / "file.yaml", "--out", tmp_path, *options)

    return run


def folders(path):
    """The labels of runs, without what decides them, and their seeds."""
    return sorted(re.sub("-[0-9a-f]{8}-", " ", p.name) for p in path.iterdir() if p.is_dir())


def rows(tmp_path):
    """The lines of the table, by configuration; with halving of the last rung that each is on."""
    with (tmp_path / "tiny" / "sweep.csv").open(newline="") as file:
        return {row["configuration"]: row for row in csv.DictReader(file)}


def accuracy(runs, name):
    (summary,) = runs.glob(f"{name}-*-seed0/summary.json")
    return json.loads(summary.read_text())["metrics"]["crt"]["balanced_accuracy"]


def test_arms_share_a_trunk_and_what_is_there_stays(sweep, tmp_path):
    """After a change of the file, too: what is trained is trained once."""
    code, out, err = sweep("  light: {lay_back_start: 0.5, gamma: 0.5}\n", "--jobs", 2)
    assert code == 0, err
    said = out.splitlines()
    assert said[0].startswith("sweep tiny: 3 configurations, 1 run of each; judged by balanced ")
    assert said[1] == "3 runs and 1 trunk that they share, 0 done, 4 left"
    assert re.search(
        r"\ntrunks/epoch1-ours.*: begins, see .*/trunks/epoch1-ours.*-seed0.log\n", out
    )
    found = rows(tmp_path)
    score = float(found["baseline"]["balanced_accuracy_mean"])
    done = rf"\nruns/baseline-.*-seed0: done, balanced accuracy {score:.2f} %; \d left"
    assert out.count(": begins, see") == 4 and re.search(done, out), out
    ours = max(("ours", "light"), key=lambda arm: float(found[arm]["balanced_accuracy_mean"]))
    better = f"{float(found[ours]['balanced_accuracy_mean']):.2f}"
    gained = f"{float(found[ours]['gain']):+.2f} over baseline"
    assert said[-1] == (
        f"best: {ours}: balanced accuracy of the hold-out {better} % (1 run), {gained}; chosen "
        "among 3, which flatters it"
    )
    runs, trunks = tmp_path / "tiny" / "runs", tmp_path / "tiny" / "trunks"
    assert folders(runs) == ["baseline seed0", "light seed0", "ours seed0"]
    assert folders(trunks) == ["epoch1-ours seed0"]
    (trunk,), (light,) = trunks.glob("*-seed0"), runs.glob("light-*-seed0")
    assert Run(light).manifest()["forked"] == {"run": str(trunk), "epoch": 1}
    before = accuracy(runs, "baseline")
    assert float(found["baseline"]["balanced_accuracy_mean"]) == pytest.approx(before, abs=1e-4)
    gain = accuracy(runs, "light") - before
    assert float(found["light"]["gain"]) == pytest.approx(gain, abs=2e-4)
    page = (tmp_path / "tiny" / "sweep.md").read_text()
    assert "Judged on a hold-out of 100 images" in page and "--holdout" not in page

    # Another name of an arm, one less, and one that diverges.
    written = {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")}
    lines = "  half: {lay_back_start: 0.5, gamma: 0.5}\n  wild: {method: baseline, lr: 1.0e+9}\n"
    code, out, err = sweep(lines)
    assert code == 0 and ": done" not in out and "\n4 runs, 3 done, 1 left" in out
    assert out.count("diverged: the loss became") == 1
    assert rows(tmp_path)["half"]["gain"] == found["light"]["gain"]
    assert rows(tmp_path)["wild"]["diverged"] == "seed0"
    tables = {path: path.read_bytes() for path in (tmp_path / "tiny").glob("sweep*")}
    assert {"sweep-gains.png", "sweep-gains.svg"} <= {path.name for path in tables}
    code, out, err = sweep(lines)  # nothing is left to do, not even what diverged
    assert code == 0 and "diverged" not in out
    assert tables == {path: path.read_bytes() for path in tables}
    assert written == {path: path.stat().st_mtime_ns for path in written}
    code, out, err = sweep(lines, "--list")
    assert code == 0 and out.count(" done") == 3 and "\nnothing is left\n" in out
    assert re.search(r"wild-.*-seed0: diverged: the loss", out)

    (half,) = runs.glob("light-*-seed0/manifest.json")
    half.write_text(re.sub('"sha256": "[0-9a-f]{8}', '"sha256": "00000000', half.read_text()))
    code, _, err = sweep(lines, "--tables-only")
    assert code == 2 and re.search("light.* has other train images and hold-out images than", err)


def test_halving_trains_the_best_for_longer_and_a_kill_loses_nothing(sweep, tmp_path, command):
    text = FILE.replace(" epochs: 2,", "").replace("  ours: {lay_back_start: 0.5}\n", "")
    text += "halving: {epochs: [1, 2], keep: 0.4}\ngrid: {lr: [0.0, 0.3, 0.6]}\n"
    (tmp_path / "file.yaml").write_text(text)
    words = [str(tmp_path / "file.yaml"), "--out", str(tmp_path)]
    parent = FORK.Process(target=in_a_process, args=(ltvr.sweep, words))
    parent.start()
    table = tmp_path / "tiny" / "sweep.json"
    while parent.is_alive() and not table.is_file():
        parent.join(0.01)
    parent.kill()
    parent.join()
    (rung,) = json.loads(table.read_text())["rungs"]  # and what it has is in its table
    assert [each["score"] is None for each in rung] == [False, True, True]
    code, out, err = command(ltvr.sweep, *words)
    assert code == 0 and out.count(": done") >= 3, err
    assert ": all at 1 epoch, then the best 1 at 2; judged by balanced accuracy" in out
    assert "\n3 runs at 1 epoch, 1 done, 2 left" in out and "\n1 run at 2 epochs, 0 done, 1" in out
    found = json.loads(table.read_text())
    first, last = found["rungs"]
    scores = [each["score"] for each in first]
    best = first[scores.index(max(scores))]
    assert [each["configuration"] for each in last] == [best["configuration"]] == [found["best"]]
    assert [each["epochs"] for each in (*first, *last)] == [
        {"features": n, "crt": 1} for n in (1, 1, 1, 2)
    ]
    assert {p.suffix for p in (tmp_path / "tiny").glob("sweep-values*")} == {".svg", ".png", ".csv"}


def test_what_is_wrong_stops_the_sweep_by_the_word_of_the_run(sweep, tmp_path, command):
    text = FILE.replace("{holdout: 10, holdout_from: left-out,", "{holdout: 10, dataset: folder,")
    (tmp_path / "file.yaml").write_text(text)
    options = ["--out", tmp_path, "--root", tmp_path / "none"]
    code, out, err = command(ltvr.sweep, tmp_path / "file.yaml", *options)
    assert code == 2 and err.count("\n") == 1 and "error: baseline-" in err, err
    assert f"{tmp_path / 'none'}" in err and "mend it, and the same command goes on" in err


def test_where_no_run_has_what_decides_nothing_is_best(sweep, tmp_path, command):
    """Accuracy on few-shot classes, where no class is one; the table is there."""
    text = FILE.replace("{holdout: 10,", "{few_below: 1, holdout: 10,")
    (tmp_path / "file.yaml").write_text(f"{text}judge: {{metric: few}}\n")
    code, out, err = command(ltvr.sweep, tmp_path / "file.yaml", "--out", tmp_path)
    assert code == 2 and "no configuration has a top-1 of few-shot" in err, err
    assert "best:" not in out
    assert {row["few_mean"] for row in rows(tmp_path).values()} == {""}
