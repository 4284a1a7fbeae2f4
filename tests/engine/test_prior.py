"""What class frequencies a stage was trained with, and those that a file asks for."""

import itertools
import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from ltvr.clock import Clock, stream
from ltvr.engine.prior import trained_prior, wanted_prior
from ltvr.errors import UserError
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.mixing.cutmix import expected_share
from ltvr.runs.folder import Run
from ltvr.stages.base import Classes
from ltvr.stages.build import stages_of


def test_the_shares_of_a_stage_that_generates(finished):
    """Against the batches of its last epoch, counted one by one."""
    run = Run.open(finished)
    stage = stages_of(run.config())["features"]
    labels = np.repeat(np.arange(10), run.manifest()["train_counts"])
    order = stage.sampler.epoch(labels, seed=stream(0, "features"), epoch=1, epochs=2)
    shares, classes = [], Classes(np.array(run.manifest()["train_counts"]))
    for i in range(6):
        batch = torch.from_numpy(labels[order[i * 64 : (i + 1) * 64]])
        plan = stage.plan(batch, Clock(0, "features", 2, 6, epoch=1, step=i), 2, classes)
        original = torch.bincount(batch, minlength=10).double()
        everything = original + torch.bincount(plan.labels, minlength=10)
        shares.append((original / original.sum() + 2 * everything / everything.sum()) / 3)
    found = trained_prior(run, finished / "features.pt")
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, torch.stack(shares).mean(0), atol=0.01)
    assert found[9] > 0.05 > 0.02 > run.manifest()["train_counts"][9] / 404


def test_the_epoch_is_that_of_the_weights(finished, tmp_path):
    """The first of two epochs generates nothing; which of them is the best is changed by hand."""
    run = Run.open(shutil.copytree(finished, tmp_path / "run"))
    counts = np.array(run.manifest()["train_counts"])
    plain, last = counts / counts.sum(), trained_prior(run, run.weights("features"))
    assert last[9] > 0.05 > plain[9]
    config, metrics = run.folder / "config.yaml", run.folder / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    # Of a hold-out classes count alike, whatever the top-1 of all is.
    scores = {"test": ("all", "balanced_accuracy"), "hold-out": ("balanced_accuracy", "all")}
    for on, (best, expected) in itertools.product(scores, ((0, plain), (1, last))):
        for epoch in range(2):
            records[epoch]["evaluated_on"] = on
            for score, high in zip(scores[on], (best, 1 - best), strict=True):
                records[epoch]["eval"][score] = 50.0 + (epoch == high)
        metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
        config.write_text(config.read_text().replace("select: last", "select: best"))
        np.testing.assert_allclose(trained_prior(run, run.weights("features")), expected)

        state = torch.load(finished / "best-features.pt", weights_only=True)
        made = torch.tensor(records[best]["synthetic_counts"])
        state |= {"epoch": best, "totals": {**state["totals"], "synthetic_counts": made}}
        torch.save(state, run.best("features"))
        np.testing.assert_allclose(trained_prior(run, run.best("features")), expected)
        torch.save(state | {"epoch": best + 1, "step": 0}, run.last)  # the next one is to begin
        np.testing.assert_allclose(trained_prior(run, run.last), expected)
    torch.save(state | {"step": 3, "totals": {"synthetic_counts": made // 2}}, run.last)
    np.testing.assert_allclose(trained_prior(run, run.last), last, rtol=0.02)  # half an epoch
    torch.save(state | {"epoch": 0, "step": 0}, run.last)
    with pytest.raises(UserError, match="no record of the stage features"):
        trained_prior(run, run.last)


def test_labels_are_mixed_in_the_epochs_that_mix(finished, tmp_path, monkeypatch):
    """CMO in the first of two epochs: of its partners each class is as often."""
    run = Run.open(shutil.copytree(finished, tmp_path / "run"))
    counts = np.array(run.manifest()["train_counts"])
    plain, last = counts / counts.sum(), trained_prior(run, run.weights("features"))
    config = run.folder / "config.yaml"
    cmo = "mixing: cmo\ncmo_plain_first: 0\ncmo_plain_last: 1"
    config.write_text(config.read_text().replace("mixing: none", cmo))
    np.testing.assert_allclose(trained_prior(run, run.weights("features")), last)
    state = torch.load(run.best("features"), weights_only=True) | {"epoch": 0}
    state["totals"]["synthetic_counts"].zero_()
    torch.save(state, run.best("features"))
    pasted = 0.5 * (1 - expected_share(16, 1.0))
    expected = (1 - pasted) * plain + pasted / 10
    np.testing.assert_allclose(trained_prior(run, run.best("features")), expected)
    monkeypatch.setattr(CrossEntropy, "weights", lambda self, labels: labels + 1.0)
    u = np.arange(1, 11)  # a mean under each of the two labels
    expected = (1 - pasted) * plain * u / (plain @ u) + pasted * u / u.sum()
    np.testing.assert_allclose(trained_prior(run, run.best("features")), expected)


def test_the_weights_of_a_loss_count(finished, monkeypatch):
    run = Run.open(finished)
    np.testing.assert_allclose(trained_prior(run, finished / "crt.pt"), 0.1)
    monkeypatch.setattr(CrossEntropy, "weights", lambda self, labels: labels + 1.0)
    np.testing.assert_allclose(trained_prior(run, finished / "crt.pt"), np.arange(1, 11) / 55)
    by_weights = trained_prior(run, finished / "features.pt")
    monkeypatch.setattr(CrossEntropy, "normalise", "batch")
    by_rows = trained_prior(run, finished / "features.pt")
    assert by_rows[9] > by_weights[9] + 0.01  # generated rows are of the classes that weigh most


def test_what_a_loss_adds_to_the_logits_is_no_part_of_them(finished, monkeypatch):
    """Logits of balanced softmax are under even classes where images come by their counts."""
    run = Run.open(finished)
    counts = torch.tensor(run.manifest()["train_counts"])
    monkeypatch.setattr(CrossEntropy, "offsets", lambda self, classes: counts[classes].log())
    found = trained_prior(
        run, finished / "crt.pt"
    )  # even in the first place: now against the counts
    np.testing.assert_allclose(found, 1 / counts.numpy() / (1 / counts.numpy()).sum(), rtol=1e-6)


def test_without_its_records_a_stage_is_unknown(finished, tmp_path):
    for name in ("config.yaml", "manifest.json", "crt.pt"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    with pytest.raises(UserError, match="no record of the stage crt in metrics.jsonl"):
        trained_prior(Run.open(tmp_path), tmp_path / "crt.pt")


def test_frequencies_of_a_file(finished, tmp_path):
    run, path = Run.open(finished), tmp_path / "prior.json"
    weights = {str(k): k for k in range(10)}
    path.write_text(json.dumps(weights))
    np.testing.assert_allclose(wanted_prior(run, str(path)), np.arange(10) / 45)
    np.testing.assert_allclose(wanted_prior(run, "uniform"), 0.1)
    counts = np.array(run.manifest()["train_counts"])
    np.testing.assert_allclose(wanted_prior(run, "train"), counts / counts.sum())

    for text, words in {
        json.dumps({**weights, "cow": 1}): "'cow' is no class",
        json.dumps({"0": 1}): "9 of 10 classes have no weight, first '1'",
        json.dumps({**weights, "3": -1}): "class '3' has weight -1",
        json.dumps({**weights, "3": True}): "class '3' has weight True",
        json.dumps(dict.fromkeys(weights, 0)): "add up to 0",
        json.dumps(dict.fromkeys(weights, 1e308)): "add up to inf; expected smaller ones",
        '{"3": 1, "3": 2}': "class '3' has a weight already",
        "[1]": "expected an object",
        "{": "is not JSON",
    }.items():
        path.write_text(text)
        with warnings.catch_warnings(), pytest.raises(UserError, match=words):
            warnings.simplefilter("error")
            wanted_prior(run, str(path))
    lines = tmp_path / "prior.txt"
    for text, words in {
        "0,1,2": "line 1: '0,1,2': expected `class,weight`",
        "class,weight": "class 'class' has weight 'weight'",
        "0,1\n0,2": "line 2: class '0' has a weight already",
        "0,nan": "class '0' has weight 'nan'",
    }.items():
        lines.write_text(text)
        with pytest.raises(UserError, match=words):
            wanted_prior(run, str(lines))
    with pytest.raises(UserError, match="expected uniform, train, or a file"):
        wanted_prior(run, "unifrom")
