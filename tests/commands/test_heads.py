"""Heads on the features of a run: one table, whatever stopped it on the way."""

import csv
import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import Killed, summary, tiny_config

import ltvr.heads
from ltvr import distributed
from ltvr.engine.source import load_own
from ltvr.engine.trained import Trained, load_trained
from ltvr.errors import UserError
from ltvr.posthoc import embeddings, measure
from ltvr.posthoc.embeddings import EmbeddingCache
from ltvr.runs import files
from ltvr.runs.lock import Lock
from ltvr.training import train

OUTPUTS = Trained.outputs
TAUS = [step / 10 for step in range(21)]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run of one stage, whose images are of three pieces a view; read it only."""
    folder = tmp_path_factory.mktemp("heads") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ltvr.training.write_report", lambda *_: None)
        train(
            tiny_config(method="baseline", eval_batch_size=200, mislas_epochs=2, lws_epochs=2),
            folder,
        )
    return folder


@pytest.fixture
def run(started, tmp_path):
    return shutil.copytree(started, tmp_path / "run")


@pytest.fixture
def passes(monkeypatch):
    """Counts the batches that go through the backbone."""
    counted = []

    def outputs(trained, images):
        counted.append(len(images))
        return OUTPUTS(trained, images)

    monkeypatch.setattr(Trained, "outputs", outputs)
    return counted


def test_embeddings_of_another_rank_that_this_one_does_not_see_are_missed(
    run, tmp_path, monkeypatch
):
    """As where the run folder of each machine is its own."""
    trained = load_trained(run, "cpu")
    data = load_own(trained.run, trained.config)
    cache = EmbeddingCache(tmp_path / "embeddings", {}, pytest.fail)
    monkeypatch.setattr(distributed, "share_of", lambda number, unit: range(0))
    with pytest.raises(UserError, match="another rank has made .*test-00000.npz, and it is not th"):
        cache.embed(trained, data.test, "test")


def written(folder):
    return {kind: (folder / f"heads.{kind}").read_bytes() for kind in ("json", "md", "csv")}


def heads_in(folder):
    return {each["head"]: each for each in json.loads(written(folder)["json"])["heads"]}


def test_every_head_is_in_the_table(run, command):
    code, out, err = command(ltvr.heads, run)
    assert code == 0, err
    found = heads_in(run)
    assert list(found) == list(ltvr.heads.names())
    joint = found["joint"]["chosen"]["metrics"]
    assert joint == {k: summary(run)["metrics"]["features"][k] for k in joint}
    assert found["ncm-un"]["chosen"]["metrics"]["all"] > joint["all"] + 20
    assert found["tde"]["chosen"] is None and "TDE: n/a, Linear has kept no moving" in out

    for name in ("tau-norm", "tau-norm-bias", "logit-adjustment"):
        head, tried = found[name], found[name]["tried"]
        assert [each["value"] for each in tried] == TAUS
        top = max(each["choice_balanced"] for each in tried)
        best = [each["value"] for each in tried if each["choice_balanced"] == top]
        assert head["chosen"]["value"] == min(best, key=lambda tau: (abs(tau - 1), tau))
        usual = None if head["chosen"]["value"] == 1 else tried[TAUS.index(1)]
        assert head["usual"] == usual
        assert (f"{head['title']}, tau = 1 (usual)" in out) == bool(usual)
        optimum = head["test optimum, optimistic"]["metrics"]["all"]  # the test set is balanced
        assert optimum == max(each["metrics"]["all"] for each in tried)
        assert f"tau = {head['chosen']['value']:g}" in out and "(test optimum, optimistic)" in out
    for name in ("tau-norm-bias", "logit-adjustment"):
        assert found[name]["tried"][0]["metrics"]["per_class"] == joint["per_class"]

    rows = list(csv.DictReader(written(run)["csv"].decode().splitlines()))
    assert [row["head"] for row in rows if row["kind"] == "chosen"] == [
        name for name in found if name != "tde"
    ]
    assert float(rows[0]["all"]) == pytest.approx(joint["all"], abs=1e-4)
    assert written(run)["md"].decode().count("\n| ") == len(rows)


def test_killed_anywhere_nothing_is_lost_or_repeated(run, monkeypatch, passes, command):
    whole = shutil.copytree(run, run.with_name("whole") / run.name)
    assert command(ltvr.heads, whole, "--lr-factors", 1, 0.3)[0] == 0
    expected, results = list(passes), whole / "heads" / "results.jsonl"
    passes.clear()

    written_at = []
    originals = {embeddings: embeddings._write, files: files.append}
    for module, name in ((embeddings, "_write"), (files, "append")):

        def dying(*arguments, write=originals[module]):
            write(*arguments)
            written_at.append(arguments[0])
            if len(written_at) % 9 == 0:
                raise Killed

        monkeypatch.setattr(module, name, dying)
    monkeypatch.setattr(sys, "argv", ["heads", str(run), "--lr-factors", "1", "0.3"])
    kills = 0
    while not (run / "heads.json").exists():
        try:
            ltvr.heads.main()
        except Killed:
            kills += 1
            assert not (run / "heads.md").exists()
    assert kills > 6 and passes == expected
    assert len(written_at) == len(expected) + results.read_bytes().count(b"\n")
    assert written(run) == written(whole)


def test_what_is_damaged_is_made_again(run, command, passes):
    assert command(ltvr.heads, run)[0] == 0
    expected, number = written(run), len(passes)
    passes.clear()
    kept = run / "heads"
    pieces = sorted((kept / "embeddings").glob("*.npz"))
    assert len(pieces) == number
    content = pieces[1].read_bytes()
    pieces[1].write_bytes(content[: len(content) // 2])
    flipped = bytearray(pieces[4].read_bytes())
    flipped[len(flipped) // 2] ^= 4
    pieces[4].write_bytes(flipped)
    np.savez(pieces[5], embeddings=np.zeros((3, 2), np.float32))
    (kept / "embeddings" / "x.partial").write_text("of a kill")
    lines = (kept / "results.jsonl").read_bytes().split(b"\n")
    (kept / "results.jsonl").write_bytes(b"\n".join([*lines[:4], b"{", *lines[5:-3], b'{"key": ']))
    (run / "heads.md").unlink()
    code, out, _ = command(ltvr.heads, run)
    assert code == 0 and out.count("is damaged: made anew") == 3 and len(passes) == 3
    assert written(run) == expected and not list(kept.glob("*/*.partial"))


def test_another_checkpoint_has_a_table_of_its_own(run, command):
    """And the run's says what it was made of: ``reproduce`` goes by that."""
    assert command(ltvr.heads, run, "--heads", "ncm-un")[0] == 0
    own = written(run)
    found = json.loads(own["json"])
    weights = (run / "features.pt").read_bytes()
    assert found["weights"] == "features.pt" and found["options"] == {}
    assert found["sha256"] == hashlib.sha256(weights).hexdigest()
    code, out, err = command(ltvr.heads, run / "best-features.pt", "--heads", "ncm-un")
    assert code == 0 and "heads-best-features.md, .csv, .json" in out, err
    assert written(run) == own
    assert json.loads((run / "heads-best-features.json").read_text())["weights"] != "features.pt"
    assert all((run / f"heads-best-features.{kind}").is_file() for kind in ("md", "csv"))
    words = ["--heads", "lws", "--views", 1, "--lws-epochs", 1, "--lr-factors", 1, 2]
    assert command(ltvr.heads, run / "features.pt", *words, "--choose-on", 3)[0] == 0
    expected = {"views": 1, "choose_on": 3, "lr_factors": [1.0, 2.0], "lws_epochs": 1}
    assert json.loads(written(run)["json"])["options"] == expected


def test_other_weights_are_embedded_anew(run, command, passes):
    assert command(ltvr.heads, run, "--heads", "joint")[0] == 0
    number = len(passes)
    state = torch.load(run / "features.pt", weights_only=True)
    state["model"]["classifier.weight"].neg_()
    torch.save(state, run / "features.pt")
    code, out, err = command(ltvr.heads, run, "--heads", "joint")
    assert code == 0 and "are of other weights: made anew" in out, err
    assert len(passes) == 2 * number
    assert heads_in(run)["joint"]["chosen"]["metrics"]["all"] < 20


def test_other_options_train_again_and_the_rest_is_kept(run, command, passes):
    assert command(ltvr.heads, run)[0] == 0
    before, results = heads_in(run), run / "heads" / "results.jsonl"
    number, lines = len(passes), results.read_text().count("\n")
    code, _, err = command(ltvr.heads, run, "--crt-lr", "0.01")
    assert code == 0 and len(passes) == number, err
    assert results.read_text().count("\n") == lines + 1
    after = heads_in(run)
    assert after["crt"]["chosen"] != before["crt"]["chosen"]
    assert all(after[name] == before[name] for name in before if name != "crt")

    trained = list(ltvr.heads.trained_names())
    assert command(ltvr.heads, run, "--views", "1")[0] == 0 and len(passes) == number
    assert results.read_text().count("\n") == lines + 1 + len(trained)
    assert command(ltvr.heads, run, "--heads", "crt", "ncm-un")[0] == 0 and len(passes) == number
    assert heads_in(run) == {name: before[name] for name in ("ncm-un", "crt")}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        (
            {"method": "de-confound"},
            {"tau-norm": "logits of DeConfound", "tau-norm-bias": "logits"},
        ),
        ({"method": "balanced-softmax"}, {"logit-adjustment": "even class", "tde": "no moving"}),
        ({"method": "ltvr", "fused": True}, {"tde": "Linear has kept no moving feature"}),
    ],
)
def test_heads_that_would_mean_nothing_have_a_reason(
    changes, reasons, tmp_path, command, no_report
):
    train(tiny_config(stages=("features",), **changes), tmp_path / "run")
    code, out, err = command(ltvr.heads, tmp_path / "run" / "features.pt")
    assert code == 0, err
    found = heads_in(tmp_path / "run")
    missing = {name: each["reason"] for name, each in found.items() if each["chosen"] is None}
    assert missing.keys() == reasons.keys()
    assert all(words in missing[name] for name, words in reasons.items())
    assert all(out.count(reason) == 1 for reason in missing.values())  # also one that heads share
    joint = found["joint"]["chosen"]["metrics"]
    assert joint == {k: summary(tmp_path / "run")["metrics"]["features"][k] for k in joint}
    for each in found["tde"]["tried"][:1]:  # alpha = 0 takes nothing away
        assert each["value"] == 0 and each["metrics"]["per_class"] == joint["per_class"]


def test_values_are_chosen_on_a_validation_split(tmp_path, write_images, command, no_report):
    counts = {"train": (20, 12, 6), "val": (2, 2, 2), "test": (3, 3, 3)}
    for split, numbers in counts.items():
        names = [f"{k}/{i}.png" for k, number in enumerate(numbers) for i in range(number)]
        write_images(tmp_path / "data" / split, names, seed=len(split))
    config = tiny_config(
        method="baseline", dataset="folder", root=str(tmp_path / "data"), imbalance=1.0,
        batch_size=8, epochs=1, stages=("features",), image_size=8,
    )  # fmt: skip
    train(config, tmp_path / "run")
    code, out, err = command(ltvr.heads, tmp_path / "run", "--heads", "tau-norm")
    assert code == 0 and "chosen on the 6 validation images" in out, err
    assert not list((tmp_path / "run" / "heads").glob("*/train-view*"))
    code, _, err = command(ltvr.heads, tmp_path / "run", "--choose-on", 3)
    assert code == 2 and "--choose-on changes nothing beside a validation split" in err


def test_where_no_image_can_be_spared_nothing_is_chosen(tmp_path, write_images, command, no_report):
    for counts in ((1, 1, 1, 1), (8, 3, 1)):
        data, run = tmp_path / f"data{len(counts)}", tmp_path / f"run{len(counts)}"
        for split, numbers in {"train": counts, "test": (2,) * len(counts)}.items():
            names = [f"{k}/{i}.png" for k, number in enumerate(numbers) for i in range(number)]
            write_images(data / split, names, seed=len(split))
        config = tiny_config(
            method="baseline", dataset="folder", root=str(data), imbalance=1.0, batch_size=4,
            epochs=1, stages=("features",), image_size=8,
        )  # fmt: skip
        train(config, run)
        options = ("--heads", "tau-norm", "crt", "--lr-factors", 0.3, 2, "--views", 1)
        code, out, err = command(ltvr.heads, run, *options)
        assert code == 0, err
        if len(counts) == 3:
            assert "(3 of 3 classes have fewer)" in out
            assert "1 class has one image alone, and no part in it." in out
            continue
        assert "Values: the usual ones, and not chosen; every class has one training image" in out
        chosen = {name: each["chosen"] for name, each in heads_in(run).items()}
        assert {name: each["value"] for name, each in chosen.items()} == {"tau-norm": 1, "crt": 0.3}
        assert chosen["crt"]["choice_balanced"] is None
        code, _, err = command(ltvr.heads, run, "--choose-on", 1)
        assert code == 2 and "every class has one training image alone; leave it out" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--heads", "knn"], "invalid choice: 'knn'"),
        (["--views", "-1"], "--views -1: expected 0 to"),
        (["--choose-on", "0"], "--choose-on 0: expected 1 to"),
        (["--lr-factors", "1", "nan"], "--lr-factors 1 nan: expected numbers"),
        (["--lr-factors", "1", "1"], "each once"),
        (["--heads", "joint", "--crt-lr", "1"], "--crt-lr is of the heads that are trained"),
        (["--heads", "joint", "--lr-factors", "2"], "--lr-factors is of the heads that are"),
        (["--heads", "joint", "--choose-on", "2"], "where no value is chosen"),
        (["--crt-batchnorm", "eval"], "--crt-batchnorm changes nothing here"),
        (["--root", "elsewhere"], "--root changes nothing for digits"),
        (["--focal-gamma", "1"], "--focal-gamma is an option of"),
        (["--crt-lr", "-1"], "crt_lr = -1"),
    ],
)
def test_what_would_change_nothing_is_refused(arguments, words, started, command):
    code, _, err = command(ltvr.heads, started, *arguments)
    assert code == 2 and words in err and err.count("\n") == 1, err
    assert not (started / "heads").exists()


def test_what_is_no_first_stage_is_refused(run, command, tmp_path):
    code, _, err = command(ltvr.heads, run / "crt.pt")
    assert code == 2 and "is of the stage crt, which has a classifier of its own" in err
    (run / "metrics.jsonl").unlink()
    code, _, err = command(ltvr.heads, run)
    assert code == 2 and "no record of the stage features" in err and "logit-adjustment" in err
    (run / "features.pt").unlink()
    code, _, err = command(ltvr.heads, run)
    assert code == 2 and f"{run} is finished, and its features.pt has been deleted" in err
    (run / "summary.json").unlink()
    code, _, err = command(ltvr.heads, run)
    assert code == 2 and f"has no features.pt yet; go on with --resume {run}" in err
    code, _, err = command(ltvr.heads, tmp_path)
    assert code == 2 and "is no run" in err


def test_one_process_at_a_time(run, command):
    (run / "heads").mkdir()
    lock = Lock(run / "heads", "another")
    code, _, err = command(ltvr.heads, run)
    assert code == 2 and "is in use by process" in err
    lock.release()
    shutil.rmtree(run / "heads")
    (run / "heads").write_text("")
    code, _, err = command(ltvr.heads, run)
    assert code == 2 and "is in the way" in err and err.count("\n") == 1


def test_what_is_as_good_gives_way_to_the_usual_value():
    values = ((0.5, 9.0), (1.4, 9.0), (1.0, 8.0), (0.9, 8.5))
    tried = [measure.Tried(value, choice, 0.6, {}) for value, choice in values]

    def best(usual):
        return measure._best(tried, usual, lambda each: each.choice).value

    assert best(1.0) == 1.4 and best(0.9) == 0.5
