"""``python -m ltvr.reproduce`` as a whole, on tables of tiny runs."""

import csv
import json
import re
import shutil
import time

import pytest
from conftest import records, summary
from forked import FORK, fork_jobs, in_a_process, printing_to

import ltvr.reproduce
from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.jobs import costs
from ltvr.reproduction.catalogue import CATALOGUE, Catalogue
from ltvr.runs.folder import Run
from ltvr.settings import PRESETS, save_config
from ltvr.stages.features import FeaturesOptions

pytestmark = pytest.mark.forks
TINY = {"image_size": 8, "batch_size": 64, "epochs": 1, "crt_epochs": 1}
FILES = {
    "runs": """
baseline: {method: baseline, repeated: true}
keep: {method: baseline, options: {stages: [crt], crt_init: keep}, from: baseline}
""",
    "budgets": "cpu: {digits: {preset: digits}}",
    "tiny": """
title: A tiny table
datasets: {cpu: [digits]}
over: {crt: Baseline}
notes: [What <the paper> says.]
rows:
- {label: Baseline, run: baseline, result: crt, paper: {digits: [60.0, 61.5, 62.0, null]}}
- {label: Keep, run: keep, result: crt}
claims:
- {above: Keep, below: Baseline}
""",
    "fig4": """
title: A figure
datasets: {cpu: [digits]}
over: {features: Baseline}
weights: true
rows:
- {label: Baseline, run: baseline, result: features}
""",
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A catalogue of two runs, a preset of three epochs, and the arguments that name them."""
    for name, text in FILES.items():
        (tmp_path / "catalogue").mkdir(exist_ok=True)
        (tmp_path / "catalogue" / f"{name}.yaml").write_text(text)
    lines = "".join(f"{name}: {value}\n" for name, value in TINY.items())
    digits = (PRESETS / "digits.yaml").read_text()
    kept = [line for line in digits.splitlines() if line.split(":")[0] not in TINY]
    (tmp_path / "tiny.yaml").write_text("\n".join(kept) + "\n" + lines)
    monkeypatch.setattr(ltvr.reproduce, "CATALOGUE", tmp_path / "catalogue")
    fork_jobs(monkeypatch)
    return ["tiny", "--preset", tmp_path / "tiny.yaml", "--device", "cpu"]


def tables(folder):
    """What was written: text by the ending of the file."""
    return {
        ending: (folder / f"tiny-tiny.{ending}").read_text() for ending in ("md", "csv", "html")
    }


def test_killed_and_begun_again_or_two_at_a_time_it_is_the_same_table(tiny, tmp_path, command):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, out, err = command(ltvr.reproduce, *tiny, "--seeds", "0,1", "--out", whole)
    assert code == 0, err
    assert {p.name for p in (whole / "tiny").iterdir() if p.is_dir()} == {
        "baseline-seed0", "baseline-seed1", "keep-seed0",
    }  # fmt: skip
    assert Run(whole / "tiny" / "keep-seed0").manifest()["source"]["file"].endswith("features.pt")

    again = [*map(str, tiny), "--seeds", "0,1", "--out", str(killed), "--jobs", "2"]
    parent = FORK.Process(target=in_a_process, args=(ltvr.reproduce, again))
    parent.start()
    metrics = killed / "tiny" / "baseline-seed0" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not metrics.is_file() and time.monotonic() < until:
        time.sleep(0.01)
    parent.kill()
    parent.join()
    code, out, err = command(ltvr.reproduce, *again)
    assert code == 0, err
    assert tables(killed) == tables(whole)
    for folder in (whole / "tiny").glob("*-seed*/"):
        assert records(killed / "tiny" / folder.name) == records(folder)

    log = (killed / "tiny" / "baseline-seed0.log").read_text()
    began = [p.stat().st_mtime_ns for p in sorted((killed / "tiny").glob("*/summary.json"))]
    code, out, err = command(ltvr.reproduce, *again)
    assert code == 0 and (killed / "tiny" / "baseline-seed0.log").read_text() == log
    assert began == [p.stat().st_mtime_ns for p in sorted((killed / "tiny").glob("*/summary.json"))]

    rows = list(csv.DictReader((whole / "tiny-tiny.csv").open(newline="")))
    accuracies = [
        summary(whole / "tiny" / f"baseline-seed{n}")["metrics"]["crt"]["all"] for n in (0, 1)
    ]
    assert float(rows[0]["all_mean"]) == pytest.approx(sum(accuracies) / 2, abs=1e-4)
    keep = summary(whole / "tiny" / "keep-seed0")["metrics"]["crt"]["all"]
    assert float(rows[1]["gain_mean"]) == pytest.approx(keep - accuracies[0], abs=2e-4)
    page = tables(whole)["html"]
    assert "prefers-color-scheme: dark" in page and "What &lt;the paper&gt; says." in page
    assert not re.search(r"(src|href)=.http", page)


def test_folders_that_are_there_are_adopted_or_refused_by_name(tiny, tmp_path, command):
    """Of a wanted run under another label; of another configuration; of no run at all."""
    run = [*tiny, "--seeds", "0", "--out", tmp_path]
    assert command(ltvr.reproduce, *run)[0] == 0
    folder, log = tmp_path / "tiny" / "baseline-seed0", tmp_path / "tiny" / "baseline-seed0.log"
    log.unlink()
    changes = {"method": "mine", "workers": 1, "device": "auto", "effective_number_beta": 0.5}
    save_config(Run(folder).config().replaced(**changes), folder / "config.yaml")
    code, _, err = command(ltvr.reproduce, *run)
    assert code == 0 and not log.exists(), err

    manifest = tmp_path / "tiny" / "keep-seed0" / "manifest.json"
    as_it_was = manifest.read_text()
    changed = json.loads(as_it_was)
    changed["splits"]["test"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(changed))
    assert command(ltvr.reproduce, *run, "--tables-only")[0] == 0
    words = f"keep-seed0 has other test images than {folder} (sha256)"
    assert words in (tmp_path / "tiny-tiny.md").read_text()
    manifest.write_text(as_it_was)

    save_config(Run(folder).config().replaced(momentum=0.8), folder / "config.yaml")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = command(ltvr.reproduce, *run)
    words = "is another run: momentum = 0.8 there, and 0.9 is wanted; say the same, or"
    assert code == 1 and f"not there: baseline-seed0: {folder} {words}" in err
    assert "not there: keep-seed0: it needs baseline-seed0" not in err  # it is there already
    assert files == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert words in (tmp_path / "tiny-tiny.md").read_text()

    (tmp_path / "other" / "tiny" / "keep-seed0").mkdir(parents=True)
    (tmp_path / "other" / "tiny" / "keep-seed0" / "notes.txt").write_text("mine")
    code, out, err = command(ltvr.reproduce, *run[:-1], tmp_path / "other", "--tables-only")
    assert code == 1 and "no run of it is there, but " in err and "holds notes.txt" in err
    assert not (tmp_path / "other" / "tiny-tiny.md").exists()
    shutil.rmtree(tmp_path / "other" / "tiny")
    again = [*run[:-1], tmp_path / "other", "--tables-only", "--results", tmp_path]
    code, out, err = command(ltvr.reproduce, *again)
    there = tmp_path / "other" / "tiny"
    words = f"not there: tiny-tiny: no finished run of it is in {there}; --out says"
    assert code == 1 and words in err, err
    assert words not in (tmp_path / "tiny-tiny.md").read_text()  # it stays as it was

    before = tables(tmp_path)  # which others would be made in vain, and empty the table
    code, out, err = command(ltvr.reproduce, *run, "--amp", "bf16")
    assert code == 2 and "momentum = 0.8 there" in err and "(and 1 more)" in err, err
    assert tables(tmp_path) == before


def test_a_run_from_other_weights_than_those_there_is_refused(tiny, tmp_path, command):
    run = [*tiny, "--seeds", "0", "--out", tmp_path]
    assert command(ltvr.reproduce, *run)[0] == 0
    features = tmp_path / "tiny" / "baseline-seed0" / "features.pt"
    features.write_bytes(features.read_bytes() + b"0")
    code, _, err = command(ltvr.reproduce, *run)
    assert code == 1 and "it started from other weights than" in err and "features.pt" in err


def without_checkpoints(folder):
    """Leave of the runs in a folder what one would commit."""
    kept = {"command.txt", "config.yaml", "manifest.json", "metrics.jsonl", "summary.json"}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in kept:
            path.unlink()


def test_runs_without_checkpoints_are_finished_until_weights_are_needed(tiny, tmp_path, command):
    run = [*tiny, "--seeds", "0", "--out", tmp_path]
    assert command(ltvr.reproduce, *run)[0] == 0
    table, folder = tables(tmp_path), tmp_path / "tiny"
    without_checkpoints(folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = command(ltvr.reproduce, *run)
    assert code == 0 and "2 done, none left" in out and tables(tmp_path) == table, err
    assert files == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    shutil.rmtree(folder / "keep-seed0")
    code, out, err = command(ltvr.reproduce, *run)
    assert code == 0, err
    gone = f"those of {folder / 'baseline-seed0'} are gone"
    assert f"again/baseline-seed0: trained again, for its weights: {gone}\n" in out
    again = folder / "again" / "baseline-seed0" / "features.pt"
    assert Run(folder / "keep-seed0").manifest()["source"]["file"] == str(again)
    assert tables(tmp_path) == table
    assert (
        files[folder / "baseline-seed0" / "summary.json"]
        == (folder / "baseline-seed0" / "summary.json").read_bytes()
    )
    without_checkpoints(folder)
    assert "2 done, none left" in command(ltvr.reproduce, *run)[1]  # nothing needs the third
    (folder / "keep-seed0" / "summary.json").unlink()  # and so no longer finished
    assert command(ltvr.reproduce, *run)[0] == 0 and tables(tmp_path) == table
    assert (folder / "again" / "again" / "baseline-seed0" / "features.pt").is_file()
    assert len(Run(folder / "keep-seed0").records()) == 1  # begun again, not gone on with


def test_runs_and_images_may_be_moved(tiny, tmp_path, command, write_images):
    """Finished runs stand, without weights too, beside the same images wherever those are."""
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(32)]
    for split in ("train", "test"):
        write_images(tmp_path / "a" / "mine" / split, names, size=8)
    run = [*tiny, "--seeds", "0", "--dataset", "folder", "--imbalance", "1", "--root"]
    (tmp_path / "here").mkdir()
    code, _, err = command(
        ltvr.reproduce, *run, tmp_path / "a" / "mine", "--out", tmp_path / "here"
    )
    assert code == 0, err
    shutil.move(tmp_path / "a", tmp_path / "b")
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = [*run, tmp_path / "b" / "mine", "--out", tmp_path / "there"]
    code, out, err = command(ltvr.reproduce, "fig4", *moved[1:])
    assert code == 0 and "1 done, none left" in out and out.count("fig4-of-") == 5, err
    shutil.move(tmp_path / "b", tmp_path / "z")
    (tmp_path / "b" / "mine" / "train").mkdir(parents=True)
    code, out, err = command(ltvr.reproduce, "fig4", "tiny", *moved[1:], "--tables-only")
    assert code == 1 and f"not there: fig4: folder {tmp_path / 'b' / 'mine'}" in err, err
    assert "tiny-" in out
    shutil.rmtree(tmp_path / "b")
    shutil.move(tmp_path / "z", tmp_path / "b")
    without_checkpoints(tmp_path / "there")
    code, out, err = command(ltvr.reproduce, *moved)
    assert code == 0 and "2 done, none left" in out, err
    (tmp_path / "b" / "mine" / "train" / "dog" / "5.png").unlink()
    moved[moved.index("--root") + 1] = shutil.move(tmp_path / "b", tmp_path / "c") / "mine"
    code, out, err = command(ltvr.reproduce, *moved, "--list")
    assert f"its images are not those in {tmp_path / 'c' / 'mine'}; name another --out" in out


def test_a_reason_that_runs_share_is_said_once(tiny, tmp_path, command):
    """Of images that are not there: none is timed, and each training says it in its log."""
    said = [*tiny, "--seeds", "0,1", "--dataset", "folder", "--root", tmp_path / "none"]
    run = [*said, "--imbalance", "1", "--out", tmp_path]
    code, out, err = command(ltvr.reproduce, *run, "--list")
    assert code == 0 and out.count(" ?  cannot be measured (1)\n") == 3, out
    _, why, _, left, _ = out[out.index("\n(1) ") :].split("\n")
    assert f"{tmp_path / 'none' / 'train'} is missing" in why and "timing" not in out
    assert out.count("train is missing") == 1 and left == "left: 3, and what they cost is not known"
    code, out, err = command(ltvr.reproduce, *run)
    names = "baseline-seed0, baseline-seed1"
    assert code == 1 and f"not there: {names}: it ended with status 2, see its log: " in err
    assert err.count(why.removeprefix("(1) ")) == 1, err
    assert (tmp_path / "tiny-tiny-folder-none.md").read_text().count("train is missing") == 1


def test_the_list_says_what_is_left_and_how_it_was_measured(tiny, tmp_path, command, monkeypatch):
    run = [*tiny, "--seeds", "0,1", "--out", tmp_path]
    # Timing trains, and after a backward pass torch may refuse one in a fork of the process.
    words = [*map(str, run), "--list"]
    timing = FORK.Process(target=printing_to, args=(tmp_path / "list", ltvr.reproduce, words))
    timing.start()
    timing.join()
    code, out = timing.exitcode, (tmp_path / "list").read_text()
    assert code == 0 and out.count("missing") == 3 and out.count("2 timed steps an epoch") == 3, out
    assert command(ltvr.reproduce, *run[:-4], "--seeds", "0", "--out", tmp_path)[0] == 0
    # What was timed is kept, and gives way to the epochs of another seed.
    monkeypatch.setattr(costs, "timed", lambda wanted, data: pytest.fail("measured again"))
    code, out, err = command(ltvr.reproduce, *run, "--list")
    assert code == 0 and out.count("done") == 2, err
    assert re.search(r"baseline-seed1 +missing +\S.*  epochs of baseline-seed0\n", out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seeds", "0,x"], "'0,x': expected seeds like 0,1,2"),
        (["--seeds", "1,1"], "expected each seed once"),
        (["--jobs", "0"], "expected a whole number, 1 or more"),
        (["--budget", "none"], "invalid choice: 'none'"),
        (["--dataset", "mnist"], "the budget cpu has presets for digits"),
        (["--preset", "none"], "preset 'none': expected one of"),
        (["--preset", "digits", "--imbalance", "0"], "imbalance = 0.0: expected at least 1"),
        (["--with", "none"], "method 'none': expected one of"),
        (["--preset", "digits", "--images", "x"], "with --preset say --root"),
    ],
)
def test_what_does_not_fit_is_one_line(options, words, tiny, command):
    code, out, err = command(ltvr.reproduce, "tiny", *options, "--tables-only")
    assert (code, err.count("\n")) == (2, 1) and words in err


def test_a_preset_with_a_hold_out_is_refused(tiny, tmp_path, command):
    with (tmp_path / "tiny.yaml").open("a") as preset:
        preset.write("holdout: 10\n")
    code, _, err = command(ltvr.reproduce, *tiny, "--tables-only")
    assert code == 2 and "a table is of the test set, and holdout = 10 judges runs on a" in err


def test_no_number_of_the_paper_is_beside_runs_of_another_imbalance(tmp_path, command):
    """Said, or of a preset of one's own; each has files of its own."""
    preset = tmp_path / "cifar100-ir100-cpu.yaml"  # the name is the package's, the rest is not
    text = (PRESETS / preset.name).read_text()
    preset.write_text(text.replace("imbalance: 100.0", "imbalance: 10.0"))
    assert text != preset.read_text()
    words = ["table3", "fig2", "--tables-only", "--seeds", "0", "--results", tmp_path / "results"]
    said = {
        "cifar100-ir100-cpu": [],
        "cifar100-ir100-cpu-imbalance10": ["--imbalance", "10"],
        "cifar100-ir100-cpu.yaml-imbalance10": ["--preset", preset],
        "cifar100-ir100-cpu-imbalance50": ["--imbalance", "50"],
    }
    (tmp_path / "results").mkdir()
    for name, options in said.items():
        reported("fig2", tmp_path / "results", *options)
        assert command(ltvr.reproduce, *words, "--out", tmp_path / "out", *options)[0] == 1
        reported("table3", tmp_path / "results", *options)
        table = (tmp_path / "results" / f"table3-{name}.md").read_text()
        title = "# Table III: CIFAR-100, imbalance ratio 100"
        title += f". Here: cifar100, imbalance {name[-2:]}" if options else ""
        assert table.splitlines()[0] == title
        assert ("| 37.9 |" in table) == ("| claim |" in table) == (not options)
    figures = {path.stem for path in (tmp_path / "results").glob("fig2*.png")}
    others = {name for name in figures if name.startswith("fig2-of-")}
    assert figures - others == {"fig2"} and len(others) == 3
    for name in said:  # and not the numbers of a figure in their place
        table = (tmp_path / "results" / f"fig2-{name}.csv").read_text()
        assert table.startswith("row,run,shows,seeds,")


def reported(name, folder, *options):
    """Write a table none of whose runs is there, on all its data sets; return the last plan."""
    catalogue = Catalogue.read(CATALOGUE)
    arguments = ltvr.reproduce.parser(catalogue).parse_args([name, *map(str, options)])
    sheets = ltvr.reproduce.plan(arguments, catalogue)
    for sheet in sheets:
        ltvr.reproduce.report(sheet, {}, ltvr.reproduce.command(arguments), folder)
    return sheets[-1]


def test_a_data_set_of_the_paper_may_be_image_files(tmp_path, command):
    """It is the paper's data set all the same: its numbers are beside ours, its preset's tail."""
    (tmp_path / "cifar10" / "train").mkdir(parents=True)
    options = ["--out", tmp_path, "--tables-only", "--amp", "bf16", "--images"]
    sheet = reported("table2", tmp_path, *options, tmp_path)
    table = (tmp_path / "table2-cifar10-ir100-cpu.md").read_text()
    assert "| Baseline | " in table and "| 68.3 |" in table and "--budget cpu --amp bf16" in table
    config = sheet.jobs["LTVR", 0].config
    data = config.of(DataOptions)
    assert config.of(RunOptions).amp == "bf16" and config.of(FeaturesOptions).epochs == 40
    assert (data.dataset, data.root) == ("folder", str(tmp_path / "cifar10"))
    assert data.imbalance == 100 and sheet.jobs["LTVR", 0].out == tmp_path / "cifar10-ir100-cpu"
    code, _, err = command(ltvr.reproduce, "table3", *options, tmp_path)  # does without the folder
    assert code == 1 and "table3-cifar100-ir100-cpu: no finished run of it is in" in err
    options.remove("--tables-only")
    code, _, err = command(ltvr.reproduce, "table3", *options, tmp_path)
    assert code == 2 and "there is no folder cifar100/train in it" in err
    code, _, err = command(ltvr.reproduce, "table2", *options, tmp_path, "--root", "x")
    assert code == 2 and "drop one of them" in err
