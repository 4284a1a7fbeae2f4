"""A run from end to end: its folder, what it reports, and the commands that read it."""

import numpy as np
import pytest
import torch
from conftest import assert_evaluate_agrees, records, summary, tiny_config

import ltvr.evaluate
import ltvr.train
import ltvr.training
from ltvr.afa import ops
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.runs.finding import hold_newest_unfinished
from ltvr.runs.folder import Run
from ltvr.settings import save_config
from ltvr.stages.features import Features


def test_run_folder(finished):
    files = {p.name for p in finished.iterdir()}
    weights = {"last.pt", "best-features.pt", "best-crt.pt", "features.pt", "crt.pt", "final.pt"}
    assert files >= weights | {
        "config.yaml",
        "command.txt",
        "manifest.json",
        "metrics.jsonl",
        "report.html",
    }
    assert not any(name.endswith(".partial") for name in files)
    assert list((finished / "tensorboard").glob("events*"))
    run = Run.open(finished)
    assert run.config() == tiny_config()
    assert [(r["stage"], r["epoch"]) for r in run.records()] == [
        ("features", 1),
        ("features", 2),
        ("crt", 1),
    ]
    last, best = (torch.load(path, weights_only=True) for path in (run.last, run.best("crt")))
    whole = {"format", "model", "loss", "optimizer", "scaler", "epoch", "step", "average"}
    assert whole <= set(last) and whole <= set(best)
    assert (last["stage"], last["epoch"], last["step"]) == ("crt", 1, 0)


@pytest.mark.skipif(not ops.extension_available(), reason="the C++ extension is not built")
def test_a_fused_run_follows_the_reference(tmp_path, no_report):
    for backend, fused in (("reference", False), ("cpp", True)):
        options = {
            "fused": fused,
            "stages": "features",
            "lr": 1e-3,
        }  # more, and rounding grows fast
        described = ltvr.training.train(tiny_config(**options), tmp_path / backend)
        assert described["backend"] == backend
    for ours, theirs in zip(
        records(tmp_path / "cpp"), records(tmp_path / "reference"), strict=True
    ):
        assert ours["synthetic_counts"] == theirs["synthetic_counts"]
        assert ours["real_loss"] == pytest.approx(theirs["real_loss"], rel=1e-3)


def test_only_the_classifier_changes_in_crt(finished):
    first, final = (
        torch.load(finished / name, weights_only=True)["model"]
        for name in ("features.pt", "final.pt")
    )
    changed = {k for k in final if not torch.equal(final[k], first[k])}
    statistics = {k for k in final if "running_" in k or "num_batches" in k}  # BatchNorm trains on
    assert changed - statistics == {"classifier.weight", "classifier.bias"}


def test_synthetic_samples_join_at_the_lay_back_epoch(finished):
    before, after, crt = Run(finished).records()
    assert before["synthetic_loss"] is None and crt["synthetic_loss"] is None
    assert after["synthetic_loss"] > 0
    counts = after["synthetic_counts"]
    assert sum(counts) >= 6 * 64 and counts[9] > 5 * counts[0]  # gamma 1, for the rare


def test_summary_and_report(finished):
    described = summary(finished)
    assert described["lr"] == {"features": 0.025, "crt": 0.025}  # 0.2 x 64 / 512
    for stage in ("features", "crt"):
        metrics = described["metrics"][stage]
        assert len(metrics["per_class"]) == 10 and metrics["selected_on"] is None
        assert np.sum(metrics["confusion"]) == 500
        assert metrics["all"] == pytest.approx(np.trace(metrics["confusion"]) / 5, rel=1e-5)
    page = (finished / "report.html").read_text()
    for heading in ("Training", "Accuracy by class", "Class counts", "Confusion", "Masks"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<svg ") == 5 and "http" not in page


def test_the_best_epoch_is_chosen_by_what_is_reported(tmp_path, no_report):
    """With the BatchNorm statistics of real images, not with the running ones."""
    options = {"select": "best", "features_batchnorm": "real", "lay_back_start": 0.0}
    config = tiny_config(**options, stages="features", lr=0.8, ema=0.5)
    described = ltvr.training.train(config, tmp_path / "run")["metrics"]["features"]
    epochs = [record["eval"]["all"] for record in records(tmp_path / "run")]
    assert described["all"] == max(epochs) and described["selected_on"] == "test"


def test_a_stage_of_few_steps_is_told(tmp_path, no_report, capsys):
    for epochs in (8, 9):  # of 6 steps
        config = tiny_config(epochs=0, crt_epochs=epochs)
        ltvr.training.train(config, tmp_path / str(epochs))
        said = "the stage crt is 48 steps in all, few" in capsys.readouterr().err
        assert said == (epochs == 8)


def test_choosing_the_best_epoch_changes_nothing_in_training(tmp_path, no_report, monkeypatch):
    """Whatever a stage does to the weights that it reports, training goes on without it."""

    def zero(stage, network, batches):
        for parameter in network.parameters():
            parameter.data.zero_()

    monkeypatch.setattr(Features, "settle", zero)
    losses = {}
    for select in ("last", "best"):
        config = tiny_config(select=select, stages="features")
        ltvr.training.train(config, tmp_path / select)
        losses[select] = [record["real_loss"] for record in records(tmp_path / select)]
    assert losses["best"] == losses["last"]


def test_evaluating_less_often_changes_no_weight(tmp_path, monkeypatch):
    """To the bit, whatever an evaluation draws; the last epoch of a stage is always evaluated."""
    evaluate, runs = Batches.evaluate, {}

    def drawing(batches, *sizes):
        torch.rand(1)
        return evaluate(batches, *sizes)

    monkeypatch.setattr(Batches, "evaluate", drawing)
    for every in (1, 3):
        folder = tmp_path / str(every)
        config = tiny_config(epochs=5, evaluate_every=every, select="best", crt_init="keep")
        runs[every] = ltvr.training.train(config, folder)["metrics"], records(folder)
    last, often = (torch.load(tmp_path / n / "last.pt", weights_only=True) for n in "31")
    assert all(torch.equal(last["model"][name], often["model"][name]) for name in last["model"])
    assert [r["eval"] is not None for r in runs[1][1]] == [True] * 6
    assert [r["eval"] is not None for r in runs[3][1]] == [False, False, True, False, True, True]
    for few, all_of_them in zip(runs[3][1], runs[1][1], strict=True):
        assert few in (all_of_them, {**all_of_them, "eval": None})
    chosen = runs[3][0]["features"]["all"]  # among those that were evaluated
    assert chosen == max(runs[3][1][at]["eval"]["all"] for at in (2, 4))


def test_stages_one_at_a_time_give_both_at_once(finished, tmp_path, command, no_report):
    save_config(tiny_config(), tmp_path / "tiny.yaml")
    options = ("--preset", tmp_path / "tiny.yaml", "--out", tmp_path)
    assert command(ltvr.train, *options, "--name", "first", "--stages", "features")[0] == 0
    second = (
        "--out",
        tmp_path,
        "--name",
        "second",
        "--stages",
        "crt",
        "--from",
        tmp_path / "first",
    )
    code, out, _ = command(ltvr.train, *second)
    assert code == 0 and "cRT" in out
    assert f"--imbalance 30 left out {1297 - 404}" in out
    together = summary(finished)["metrics"]
    assert summary(tmp_path / "first")["metrics"] == {"features": together["features"]}
    assert summary(tmp_path / "second")["metrics"] == {"crt": together["crt"]}


def test_the_features_stage_ends_with_the_statistics_of_real_images(tmp_path, no_report):
    seen = []

    def keep(_, inputs):
        seen[:] = reversed(torch.var_mean(inputs[0], (0, 2, 3)))

    for statistics in ("running", "real"):
        options = {"features_batchnorm": statistics, "augmentation": "none", "lay_back_start": 0.0}
        config = tiny_config(**options, stages="features")
        ltvr.training.train(config, tmp_path / statistics)
        model, *_ = load_trained(tmp_path / statistics)
        norm = model.embedder.layer4[0].bn1  # the first that saw generated features
        stored = torch.stack([norm.running_mean, norm.running_var])
        train = Batches(load_data(config).train, config, torch.device("cpu"))
        with norm.register_forward_pre_hook(keep), torch.no_grad():
            model.train()(next(train.evaluate(len(train.split)))[0])
        close = torch.allclose(stored, torch.stack(seen), rtol=1e-3, atol=1e-5)
        assert close == (statistics == "real")


def test_a_name_that_is_taken_is_refused_before_images_are_read(finished, command, monkeypatch):
    monkeypatch.setattr(ltvr.training, "load_data", lambda _: pytest.fail("it reads images"))
    arguments = "--out", finished.parent, "--name", finished.name
    code, _, err = command(ltvr.train, *arguments)
    assert code == 2 and "already holds a run" in err


def test_a_diverged_run_says_to_start_again_and_auto_passes_it_over(tmp_path):
    ltvr.training.train(tiny_config(), tmp_path / "other")
    (tmp_path / "other" / "summary.json").unlink()
    with pytest.raises(
        UserError, match="loss became (nan|inf).*start again with a lower --lr"
    ) as e:
        ltvr.training.train(tiny_config(lr=1e9), tmp_path / "diverged")
    assert "--resume" not in str(e.value) and Run(tmp_path / "diverged").diverged == str(e.value)
    found, passed = hold_newest_unfinished(tmp_path, "")
    assert found is not None and found.folder.name == "other"
    found.release()
    assert len(passed) == 1 and "diverged: the loss became" in passed[0]


# ---- the commands that read a run ----


def test_evaluate_gives_the_summary(finished, tmp_path, command):
    assert_evaluate_agrees(finished, command, tmp_path)
    code, out, _ = command(ltvr.evaluate, finished / "features.pt", "--fused")
    assert code == 0 and f"{summary(finished)['metrics']['features']['all']:.2f}" in out
    assert command(ltvr.evaluate, finished, "--split", "train")[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features_batchnorm": "real"}, ["features"]),
        ({"features_batchnorm": "real", "select": "best"}, []),  # the epochs have them as well
        ({"features_batchnorm": "real", "stages": "crt"}, []),
        ({"features_batchnorm": "running"}, []),
    ],
)
def test_which_results_have_other_statistics_than_the_epochs(options, said):
    assert ltvr.train._settled(tiny_config(**options)) == said
