"""The run folder: nothing of it is lost when a run is killed, and what is spoilt is named."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import tiny_config

from ltvr.engine.trained import weights_of
from ltvr.errors import UserError
from ltvr.runs.finding import hold_newest_unfinished
from ltvr.runs.folder import Run


@pytest.fixture
def copy(finished, tmp_path):
    return Run(shutil.copytree(finished, tmp_path / "run"))


def test_a_kill_while_records_are_dropped_loses_none(copy, monkeypatch):
    before = copy.records()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            copy.truncate("features", 2, ["features", "crt"])
    assert copy.records() == before
    copy.truncate("features", 2, ["features", "crt"])
    assert copy.records() == before[:1]


@pytest.mark.parametrize("tail", ['{"stage": "crt", "ep', "\0" * 40, "\0" * 40 + "\n", "\xff"])
def test_half_a_line_at_the_end_is_no_record(tail, copy):
    before = copy.records()
    with (copy.folder / "metrics.jsonl").open("ab") as file:
        file.write(tail.encode("latin-1"))
    assert copy.records() == before


def test_a_folder_may_be_called_as_a_checkpoint_is(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "x.pt")
    for path in (folder, folder / "final.pt"):
        run, weights = weights_of(path)
        assert run.folder == folder and weights == run.final
    monkeypatch.chdir(folder)
    assert Run.open(Path()).name == "x.pt"


def spoil(**changes):
    return lambda text: json.dumps({**json.loads(text), **changes})


def of_crt(**changes):
    def change(text):
        metrics = json.loads(text)["metrics"]
        return spoil(metrics={**metrics, "crt": {**metrics["crt"], **changes}})(text)

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("metrics.jsonl", lambda t: "{\n" + t, "metrics.jsonl line 1 is no record"),
        ("metrics.jsonl", lambda t: "{}\n" + t, "metrics.jsonl line 1 lacks stage"),
        ("manifest.json", lambda t: t[:50], "manifest.json is not JSON"),
        ("manifest.json", spoil(train_counts=[1]), "train_counts of 1 classes, expected 10"),
        ("manifest.json", spoil(ranges=[1, 2]), "ranges is a list, expected fields"),
        ("manifest.json", lambda t: "", "manifest.json is not JSON"),
        ("manifest.json", lambda t: "[" * 100_000, "manifest.json is not JSON"),
        ("manifest.json", lambda t: "[]", "manifest.json: the whole is a list, expected fields"),
        ("manifest.json", spoil(splits={"train": {}}), "manifest.json lacks splits.train.images"),
        ("manifest.json", spoil(classes=[1]), r"classes\[0\] is a whole number, expected text"),
        ("summary.json", spoil(metrics={"crt": {"all": "high"}}), "metrics.crt.all is text"),
        ("summary.json", spoil(seed=None), "summary.json: seed is nothing"),
        ("summary.json", of_crt(batchnorm=[]), "metrics.crt.batchnorm is a list, expected fields"),
        ("summary.json", of_crt(batchnorm={"images": 1}), "lacks metrics.crt.batchnorm.reported"),
        ("command.txt", lambda t: "", "command.txt is empty"),
        ("command.txt", None, "command.txt is missing; write the command that began the run"),
        ("config.yaml", lambda t: "", "config.yaml lacks method"),
        ("config.yaml", lambda t: t.replace("\nseed:", "\nsed:"), "config.yaml lacks seed"),
        ("config.yaml", lambda t: "\xff", "config.yaml is not text"),
    ],
)
def test_what_is_spoilt_is_named_in_a_line(name, change, words, copy):
    path = copy.folder / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_text()).encode("latin-1"))
    with pytest.raises(UserError, match=words) as error:
        [copy.config(), copy.manifest(), copy.command(), copy.records(), copy.read_summary()]
    assert "\n" not in str(error.value)


def test_two_runs_never_share_a_folder(tmp_path):
    made = [Run.create(tmp_path / "a", tiny_config(), {}, "c", numbered=True) for _ in range(3)]
    assert [run.folder.name for run in made] == ["a", "a-2", "a-3"]
    with pytest.raises(UserError, match="is in use by process"):
        Run.create(tmp_path / "a", tiny_config(), {}, "c")
    made[0].release()
    Run.create(tmp_path / "a", tiny_config(), {}, "c").release()  # nothing was trained there
    (tmp_path / "a" / "last.pt.0123abcd.partial").write_text("killed in the first save")
    (tmp_path / "a" / "config.yaml.partial").write_text("or before")
    Run.create(tmp_path / "a", tiny_config(), {}, "c").release()
    assert not [*(tmp_path / "a").glob("*.partial")]
    (tmp_path / "a" / "metrics.jsonl").write_text("of a run whose checkpoints are gone")
    Run.create(tmp_path / "a", tiny_config(), {}, "c").release()
    assert not Run(tmp_path / "a").records()
    (tmp_path / "a" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"a already holds thesis.tex, which is not of a run"):
        Run.create(tmp_path / "a", tiny_config(), {}, "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is in the way"):
        Run.create(tmp_path / "file", tiny_config(), {}, "c")


def test_the_newest_that_is_not_finished_passes_over_what_is_in_use(copy):
    out = copy.folder.parent
    assert hold_newest_unfinished(out, "c") == (None, [])
    copy.report.unlink()  # killed while it wrote it
    found, passed = hold_newest_unfinished(out, "c")
    assert found.folder == copy.folder and passed == []
    none, passed = hold_newest_unfinished(out, "c")
    assert none is None and "in use by process" in passed[0]
    found.release()


def test_only_what_ltvr_was_writing_is_dropped(copy):
    theirs = [copy.folder / name for name in ("notes.partial", "a.pt.partial")]
    names = ("last.pt", "best-crt.pt.00ff00ff", "crt.pt")
    ours = [copy.folder / f"{name}.partial" for name in names]
    for path in theirs + ours:
        path.write_text("")
    (copy.folder / "config.yaml.partial").mkdir()
    with copy:
        copy.hold("c")
    assert all(path.exists() for path in theirs) and not any(path.exists() for path in ours)
    assert (copy.folder / "config.yaml.partial").is_dir()


def test_the_newest_passes_over_what_is_damaged_or_of_others(copy, tmp_path):
    copy.report.unlink()
    damaged, other = Run(shutil.copytree(copy.folder, tmp_path / "damaged")), tmp_path / "other"
    for path in (damaged.last, damaged.previous):
        path.write_bytes(b"PK")
    other.mkdir()
    (other / "last.pt").write_bytes(b"PK")
    found, passed = hold_newest_unfinished(tmp_path, "c")
    with found:
        assert found.folder == copy.folder
    assert len(passed) == 1 and "damaged/last.pt is not a checkpoint" in passed[0]
    assert [p.name for p in other.iterdir()] == ["last.pt"]
    damaged.hold("c")  # it was let go of
    damaged.release()
