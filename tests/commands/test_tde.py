"""TDE of a finished run by command, against its embeddings; stopped runs, and older ones."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch
from conftest import records, summary, tiny_config

import ltvr.embed
import ltvr.evaluate
import ltvr.heads
import ltvr.predict
import ltvr.train
import ltvr.training
from ltvr.classifiers._normalised import Normalised
from ltvr.errors import Stopped
from ltvr.runs.checkpoint import load_checkpoint, save_checkpoint
from ltvr.runs.folder import Run

OBSERVE = Normalised.observe
OPTIONS = {"method": "cosine", "ema": 0.5, "accumulate": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a cosine classifier."""
    folder = tmp_path_factory.mktemp("tde") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ltvr.training.write_report", lambda *_: None)
        ltvr.training.train(tiny_config(**OPTIONS), folder)
    return folder


def evaluated(command, run, path, *options):
    code, _, err = command(ltvr.evaluate, run, *options, "--json", path / "metrics.json")
    assert code == 0, err
    return json.loads((path / "metrics.json").read_text())


@pytest.mark.parametrize("stage", ["features", "crt"])
def test_evaluation_by_tde_is_that_of_the_formula(stage, run, command, tmp_path):
    checkpoint, out = run / f"{stage}.pt", tmp_path / "e.npz"
    assert command(ltvr.embed, checkpoint, "--tde", "--tde-alpha", "2.5", "--out", out)[0] == 0
    found, model = np.load(out), load_checkpoint(checkpoint)["model"]
    w, m = (model[f"classifier.{name}"].double().numpy() for name in ("weight", "moving_feature"))
    x, d = found["embeddings"].astype(np.float64), m / np.linalg.norm(m)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    logits = 16 * (x @ w.T - 2.5 * np.outer(x @ d, w @ d))
    np.testing.assert_allclose(found["logits"], logits, atol=1e-3)
    metrics = evaluated(command, checkpoint, tmp_path, "--tde", "--tde-alpha", 2.5)
    right = logits.argmax(1) == found["labels"]
    assert metrics["all"] == pytest.approx(100 * right.mean())
    plain = summary(run)["metrics"][stage]
    for options in ([], ["--no-tde"], ["--tde", "--tde-alpha", 0]):
        got = evaluated(command, checkpoint, tmp_path, *options)
        assert {k: got[k] for k in got if k != "classes"} == {
            k: plain[k] for k in got if k in plain
        }


def stop_at(micro_batch, monkeypatch):
    """Ask the next run to stop at one of its micro-batches."""
    done = 0

    def counted(*arguments):
        nonlocal done
        done += 1
        if done == micro_batch:
            signal.raise_signal(signal.SIGINT)
        OBSERVE(*arguments)

    monkeypatch.setattr(Normalised, "observe", counted)


def test_a_stopped_run_keeps_its_moving_feature(run, tmp_path, monkeypatch, no_report):
    folder = tmp_path / "stopped"
    for number, micro_batch in enumerate((3, 15)):  # within a step of either epoch
        stop_at(micro_batch, monkeypatch)
        with pytest.raises(Stopped):
            if number:
                ltvr.training.resume(Run.open(folder))
            else:
                ltvr.training.train(tiny_config(**OPTIONS), folder)
    monkeypatch.undo()
    ltvr.training.resume(Run.open(folder))
    assert records(folder) == records(run)
    for name in ("features", "crt"):
        expected, got = (load_checkpoint(f / f"{name}.pt")["model"] for f in (run, folder))
        assert expected["classifier.moving_feature"].any()
        assert all(torch.equal(value, got[key]) for key, value in expected.items())


def test_where_there_is_no_tde_it_is_refused(run, finished, command):
    code, _, err = command(ltvr.evaluate, finished, "--tde")
    assert code == 2 and err.count("\n") == 1
    assert f"error: {finished}: --tde is an option of «Cosine, capsule and de-confound" in err
    code, _, err = command(ltvr.evaluate, run, "--tde-alpha", "2")
    assert code == 2 and f"{run}: --tde-alpha changes nothing with tde = False" in err
    code, _, err = command(ltvr.evaluate, run, "--tde", "--tde-alpha", "-1")
    assert code == 2 and "tde_alpha = -1.0: expected at least 0" in err


def test_a_run_from_before_there_was_a_moving_feature(run, command, tmp_path, no_report):
    """Its configuration and its checkpoints know nothing of it, nor of heads."""
    folder = shutil.copytree(run, tmp_path / "older")
    config = (folder / "config.yaml").read_text().splitlines()
    new = ("moving_feature", "tde", "cosine_heads")
    kept = [line for line in config if not line.startswith(new)]
    assert len(config) - len(kept) == 5
    (folder / "config.yaml").write_text("\n".join(kept) + "\n")
    for path in folder.glob("*.pt"):
        state = load_checkpoint(path)
        for part in filter(None, (state["model"], state.get("average"))):
            for name in [name for name in part if name.endswith("moving_feature")]:
                del part[name]
        for name in [name for name in state.get("config", {}) if name.startswith(new)]:
            del state["config"][name]
        save_checkpoint(path, state)
    (folder / "summary.json").unlink()
    code, _, err = command(ltvr.train, "--resume", folder)
    assert code == 0, err
    assert summary(folder)["metrics"] == summary(run)["metrics"]
    got = evaluated(command, folder, tmp_path)
    assert got["all"] == summary(run)["metrics"]["crt"]["all"]
    code, _, err = command(ltvr.evaluate, folder, "--tde")
    assert code == 2 and err.count("\n") == 1
    assert f"{folder}: tde = true: no moving feature is kept" in err


def test_where_a_run_is_by_tde_one_head_is_and_no_prior(run, command, tmp_path):
    """What TDE takes away no other head takes away with it, and nothing else is moved besides."""
    folder = shutil.copytree(run, tmp_path / "run")
    without = (folder / "config.yaml").read_text()
    config = without.replace("tde: false", "tde: true").replace("tde_alpha: 1.0", "tde_alpha: 0.6")
    (folder / "config.yaml").write_text(config)
    options = ("--heads", "joint", "logit-adjustment", "tde", "crt", "--views", 1)
    code, out, err = command(ltvr.heads, folder, *options)
    assert code == 0 and "is evaluated by TDE at alpha = 0.6" in out and ".pt --no-tde`" in out, err
    found = {
        each["head"]: each for each in json.loads((folder / "heads.json").read_text())["heads"]
    }
    plain = summary(run)["metrics"]["features"]["per_class"]
    assert found["joint"]["chosen"]["metrics"]["per_class"] == plain
    assert found["logit-adjustment"]["tried"][0]["metrics"]["per_class"] == plain
    by_alpha = {each["value"]: each["metrics"]["per_class"] for each in found["tde"]["tried"]}
    expected = evaluated(command, folder / "features.pt", tmp_path)["per_class"]
    assert by_alpha[0.6] == expected != by_alpha[0] == plain
    (folder / "config.yaml").write_text(without)
    code, out, err = command(ltvr.heads, folder, "--heads", "crt", "--views", 1)
    assert code == 0 and "TDE" not in out and "--no-tde" not in out, err
    again = json.loads((folder / "heads.json").read_text())["heads"][0]
    assert again["chosen"] == found["crt"]["chosen"]

    (folder / "config.yaml").write_text(config)
    code, _, err = command(ltvr.predict, folder, "x.png", "--prior", "uniform")
    assert code == 2 and "those of TDE are not; add --no-tde" in err
    code, _, err = command(ltvr.predict, folder, "x.png", "--prior", "uniform", "--no-tde")
    assert code == 1 and "x.png: there is no image" in err


def test_scaled_logits_are_by_tde_too(run, command, tmp_path):
    second = ("--stages", "lws", "--lws-epochs", 1, "--from", run, "--out", tmp_path, "--name", "l")
    assert command(ltvr.train, *second)[0] == 0
    plain = evaluated(command, tmp_path / "l", tmp_path)["per_class"]
    by_tde = evaluated(command, tmp_path / "l", tmp_path, "--tde", "--tde-alpha", 2.5)["per_class"]
    assert by_tde != plain
