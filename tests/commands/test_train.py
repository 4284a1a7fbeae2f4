"""A run from end to end: its folder, its resumption to the bit, and the commands that read it."""

import errno
import json
import re
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import tiny_config

import ltvr.evaluate
import ltvr.export
import ltvr.train
from ltvr.afa import ops
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.totals import EpochTotals
from ltvr.engine.trained import load_trained
from ltvr.engine.trainer import Trainer
from ltvr.errors import Stopped, UserError
from ltvr.export import preparation
from ltvr.runs.folder import Run
from ltvr.settings import save_config
from ltvr.stages.features import Features
from ltvr.stages.options import TrainingOptions


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def records(folder):
    """The records of the epochs, without what a clock says."""
    clock = ("seconds", "eval_seconds", "images_per_second")
    return [{k: v for k, v in r.items() if k not in clock} for r in Run(folder).records()]


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
    whole = {"format", "model", "loss", "optimizer", "scaler", "rng", "epoch", "step", "average"}
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
        described = ltvr.train.train(tiny_config(**options), tmp_path / backend)
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
    assert page.count("data:image/png;base64,") == 5 and "http" not in page


# ---- stopping and resuming ----


ADD = EpochTotals.add
"""What every micro-batch ends with."""


class Killed(BaseException):
    """Ends a run on the spot, as SIGKILL would."""


def stop_at(step, how, monkeypatch):
    """Stop the next run at its ``step``-th micro-batch."""
    done = 0

    def counted(*arguments):
        nonlocal done
        done += 1
        if done == step and how == "kill":
            raise Killed
        if done == step:
            signal.raise_signal(signal.SIGTERM if how == "terminate" else signal.SIGINT)
        ADD(*arguments)

    monkeypatch.setattr(EpochTotals, "add", counted)


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr(ltvr.train, "write_report", lambda *_: None)


# Six steps an epoch: inside epoch 1, at its end, after its end, inside epoch 2, at the end of
# the features stage, inside cRT; what is killed goes on from the checkpoint before.
STOPS = [(3, "interrupt"), (3, "interrupt"), (2, "kill"), (5, "terminate"), (1, "interrupt")]
STOPS += [(2, "interrupt"), (3, "kill")]


def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(
    finished, tmp_path, monkeypatch, no_report
):
    folder = tmp_path / "stopped"
    for number, (step, how) in enumerate(STOPS):
        stop_at(step, how, monkeypatch)
        with pytest.raises((Killed, Stopped)) as stopped:
            ltvr.train.resume(Run.open(folder)) if number else ltvr.train.train(
                tiny_config(), folder
            )
        if how != "kill":
            assert f"--resume {folder}" in str(stopped.value)
    monkeypatch.undo()
    ltvr.train.resume(Run.open(folder))
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    assert records(folder) == records(finished)


def test_a_run_stopped_while_it_evaluates_ends_as_if_it_had_not_been(
    finished, tmp_path, monkeypatch, no_report
):
    """Within the evaluation of each epoch, and within the tests that end the stages."""
    folder, evaluate = tmp_path / "stopped", Batches.evaluate
    for number in range(1, 6):  # three epochs and two tests

        def stopped(batches, size):
            signal.raise_signal(signal.SIGTERM)
            yield from evaluate(batches, 100)

        monkeypatch.setattr(Batches, "evaluate", stopped)
        with pytest.raises(Stopped, match=f"--resume {folder}") as asked:
            ltvr.train.resume(Run.open(folder)) if number > 1 else ltvr.train.train(
                tiny_config(), folder
            )
        assert asked.value.status == 143
        calls = 0

        def once(batches, size):
            nonlocal calls
            calls += 1
            return evaluate(batches, size) if calls == 1 else stopped(batches, size)

        monkeypatch.setattr(Batches, "evaluate", once)
        with pytest.raises(Stopped) if number < 5 else nullcontext():
            ltvr.train.resume(Run.open(folder))
    monkeypatch.undo()
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    assert records(folder) == records(finished)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "runs" / "damaged")
    for damage in (lambda p: p.write_bytes(p.read_bytes()[:-9000]), lambda p: p.unlink()):
        damage(folder / "last.pt")
        (folder / "summary.json").unlink()
        shutil.copy(finished / "previous.pt", folder)
        code, out, err = command(ltvr.train, "--resume", "auto", "--out", tmp_path / "runs")
        assert code == 0 and "going on from the checkpoint before it" in out, err
        assert summary(folder)["metrics"] == summary(finished)["metrics"]
        assert records(folder) == records(finished)
    for name in ("last.pt", "previous.pt"):
        (folder / name).write_bytes(b"PK")
    code, _, err = command(ltvr.train, "--resume", folder)
    assert code == 2 and err.count("\n") == 1 and "last.pt" in err and "previous.pt" in err


def edited(name, value):
    """Write another value of an option into the ``config.yaml`` of a run."""

    def edit(folder):
        save_config(Run(folder).config().replaced(**{name: value}), folder / "config.yaml")

    return edit


def checkpoint_of(key, value):
    def edit(folder):
        state = torch.load(folder / "last.pt", weights_only=True)
        torch.save({**state, key: {**state[key], **value}}, folder / "last.pt")

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (edited("seed", 1), "a run with seed = 0, and config.yaml beside it has 1"),
        (edited("epochs", 3), "epochs = 2, and .* has 3"),
        (edited("select", "best"), "select = 'last', and .* has 'best'"),
        (edited("stages", ("features",)), "stages = .*'crt'.* has .'features'.;"),
        (checkpoint_of("splits", {"test": "0"}), "other test images than manifest.json"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(edit, words, finished, tmp_path, command):
    folder = shutil.copytree(finished, tmp_path / "run")
    edit(folder)
    code, _, err = command(ltvr.train, "--resume", folder)
    assert code == 2 and re.search(words, err) and err.count("\n") == 1, err


def test_what_decides_nothing_and_older_checkpoints_go_on(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "run")
    edited("method", "another")(folder)
    assert command(ltvr.train, "--resume", folder, "--workers", 3)[0] == 0
    for name in ("last.pt", "previous.pt"):
        state = torch.load(folder / name, weights_only=True)
        torch.save({k: v for k, v in state.items() if k not in ("config", "splits")}, folder / name)
    assert command(ltvr.train, "--resume", folder)[0] == 0
    assert summary(folder)["metrics"] == summary(finished)["metrics"]


def rewritten(path, changes):
    """Write other values of some fields of a checkpoint; None leaves the field out."""
    state = {**torch.load(path, weights_only=True), **changes}
    torch.save({k: v for k, v in state.items() if v is not None or k not in changes}, path)


def test_the_best_epoch_is_held_to_the_run_before_it_goes_on(tmp_path, command, no_report):
    config = tiny_config(select="best")
    ltvr.train.train(config, tmp_path / "whole")
    folder = tmp_path / "run"

    def resumed(damage):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder / "best-crt.pt")
        return command(ltvr.train, "--resume", folder)

    for damage, words in (
        (lambda path: path.unlink(), "best-crt.pt is missing, and --select best"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-9000]),
            "best-crt.pt is not a checkpoint",
        ),
        (lambda path: shutil.copy(folder / "best-features.pt", path), "stage is features there"),
    ):
        code, out, err = resumed(damage)
        assert code == 2 and words in err and "Then:" not in err, err
    assert resumed(lambda path: path.rename(folder / "best.pt"))[0] == 0  # as it was called before
    for change in ({"best": 100.0, "epoch": 1}, {"best": None}):  # of an epoch to come; of 0.1
        code, _, err = resumed(lambda path, change=change: rewritten(path, change))
        assert code == 0, err
        assert summary(folder)["metrics"] == summary(tmp_path / "whole")["metrics"]
    code, _, err = resumed(lambda path: rewritten(path, {"best": 1.0}))
    assert code == 2 and "best is 1.0 there and" in err


def test_each_stage_finds_its_own_best_epoch(tmp_path, command, no_report, monkeypatch):
    config = tiny_config(select="best")
    ltvr.train.train(config, tmp_path / "whole")
    stop_at(13, "kill", monkeypatch)  # in the second stage
    with pytest.raises(Killed):
        ltvr.train.train(config, tmp_path / "run")
    monkeypatch.setattr(EpochTotals, "add", ADD)
    shutil.copy(tmp_path / "whole/best-crt.pt", tmp_path / "run")  # as of a kill a moment later
    (tmp_path / "run/last.pt").unlink()  # the one before is of the first stage
    code, _, err = command(ltvr.train, "--resume", tmp_path / "run")
    assert code == 0, err
    assert summary(tmp_path / "run")["metrics"] == summary(tmp_path / "whole")["metrics"]


class Broken:
    """A stdout that fails once an epoch is told of."""

    def __init__(self, error):
        self.error = error

    def __call__(self, line, **_):
        if "epoch 1/2" in line:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, "nobody reads stdout"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "stdout cannot be written to .No sp"),
    ],
)
def test_an_epoch_is_kept_though_nobody_can_be_told(
    error, status, words, finished, tmp_path, monkeypatch, no_report
):
    folder, says = tmp_path / "run", Trainer.__init__.__defaults__
    monkeypatch.setattr(Trainer.__init__, "__defaults__", (Broken(error), None))
    with pytest.raises(Stopped, match=f"{words}.*go on with: .*--resume {folder}") as stopped:
        ltvr.train.train(tiny_config(), folder)
    assert stopped.value.status == status
    assert torch.load(folder / "last.pt", weights_only=True)["epoch"] == 1
    monkeypatch.setattr(Trainer.__init__, "__defaults__", says)
    ltvr.train.resume(Run.open(folder))
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    assert records(folder) == records(finished)


def test_records_that_are_missing_are_said(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "metrics.jsonl").unlink()
    code, out, _ = command(ltvr.train, "--resume", folder)
    assert code == 0 and "lacks the records of features epoch 1-2, crt epoch 1;" in out


def test_a_name_that_is_taken_is_refused_before_images_are_read(finished, command, monkeypatch):
    monkeypatch.setattr(ltvr.train, "load_data", lambda _: pytest.fail("it reads images"))
    arguments = "--out", finished.parent, "--name", finished.name
    code, _, err = command(ltvr.train, *arguments)
    assert code == 2 and "already holds a run" in err


def test_other_threads_than_before_are_said(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "run")
    state = torch.load(folder / "last.pt", weights_only=True)
    state["environment"]["threads"] += 1
    torch.save(state, folder / "last.pt")
    out = command(ltvr.train, "--resume", folder)[1]
    assert f"saved with threads {state['environment']['threads']} (now" in out


VARIANTS = {
    "ema, accumulation, best": {
        "ema": 0.8,
        "accumulate": 2,
        "select": "best",
        "sampler": "progressive",
        "features_batchnorm": "real",
        "crt_batchnorm": "eval",
        "crt_init": "keep",
        "channels_last": False,
        "epochs": 2,
    },
    # 8 x 8 images: a CPU emulates these types slowly.
    "bf16": {
        "amp": "bf16",
        "sampler": "square-root",
        "image_size": 8,
        "insert_after": "layer2",
        "fixed_size": True,
    },
    "deferred": {
        "method": "ldam-drw",
        "weighting_start": 0.5,
        "deferred_sampler": "class-aware",
        "deferred_sampler_start": 0.5,
        "epochs": 2,
        "image_size": 8,
    },
    "fp16": {"amp": "fp16", "method": "baseline", "image_size": 8},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_resuming_with_every_kind_of_state(changes, tmp_path, monkeypatch, no_report, command):
    config = tiny_config(**{"epochs": 1, "lay_back_start": 0.0, **changes})
    ltvr.train.train(config, tmp_path / "whole")
    folder = tmp_path / "runs" / "stopped"
    accumulate = config.of(TrainingOptions).accumulate
    for step in (4 * accumulate - 1, 5 * accumulate):  # after 4 updates, then 9
        stop_at(step, "interrupt", monkeypatch)
        with pytest.raises(Stopped, match="--resume"):
            if folder.exists():
                ltvr.train.resume(Run.open(folder))
            else:
                ltvr.train.train(config, folder)
    monkeypatch.setattr(EpochTotals, "add", ADD)
    code, out, _ = command(ltvr.train, "--resume", "auto", "--out", tmp_path / "runs")
    assert code == 0 and f"resuming {folder}" in out
    assert summary(folder)["metrics"] == summary(tmp_path / "whole")["metrics"]
    assert records(folder) == records(tmp_path / "whole")
    assert_evaluate_agrees(folder, command, tmp_path)


def test_the_best_epoch_is_chosen_by_what_is_reported(tmp_path, no_report):
    """With the BatchNorm statistics of real images, not with the running ones."""
    options = {"select": "best", "features_batchnorm": "real", "lay_back_start": 0.0}
    config = tiny_config(**options, stages="features", lr=0.8, ema=0.5)
    described = ltvr.train.train(config, tmp_path / "run")["metrics"]["features"]
    epochs = [record["eval"]["all"] for record in records(tmp_path / "run")]
    assert described["all"] == max(epochs) and described["selected_on"] == "test"


def test_choosing_the_best_epoch_changes_nothing_in_training(tmp_path, no_report, monkeypatch):
    """Whatever a stage does to the weights that it reports, training goes on without it."""

    def zero(stage, network, batches):
        for parameter in network.parameters():
            parameter.data.zero_()

    monkeypatch.setattr(Features, "settle", zero)
    losses = {}
    for select in ("last", "best"):
        config = tiny_config(select=select, stages="features")
        ltvr.train.train(config, tmp_path / select)
        losses[select] = [record["real_loss"] for record in records(tmp_path / select)]
    assert losses["best"] == losses["last"]


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
        ltvr.train.train(config, tmp_path / statistics)
        model, *_ = load_trained(tmp_path / statistics)
        norm = model.embedder.layer4[0].bn1  # the first that saw generated features
        stored = torch.stack([norm.running_mean, norm.running_var])
        train = Batches(load_data(config).train, config, torch.device("cpu"))
        with norm.register_forward_pre_hook(keep), torch.no_grad():
            model.train()(next(train.evaluate(len(train.split)))[0])
        close = torch.allclose(stored, torch.stack(seen), rtol=1e-3, atol=1e-5)
        assert close == (statistics == "real")


def test_a_diverged_run_says_to_start_again(tmp_path):
    with pytest.raises(
        UserError, match="loss became (nan|inf).*start again with a lower --lr"
    ) as e:
        ltvr.train.train(tiny_config(lr=1e9), tmp_path / "diverged")
    assert "--resume" not in str(e.value)


# ---- the commands that read a run ----


def assert_evaluate_agrees(folder, command, tmp_path):
    code, out, err = command(ltvr.evaluate, folder, "--json", tmp_path / "metrics.json")
    assert code == 0, err
    got, expected = (
        json.loads((tmp_path / "metrics.json").read_text()),
        summary(folder)["metrics"]["crt"],
    )
    assert got.pop("classes") == Run.open(folder).manifest()["classes"]
    assert got == {k: expected[k] for k in got} and f"{got['all']:.2f}" in out


def test_evaluate_gives_the_summary(finished, tmp_path, command):
    assert_evaluate_agrees(finished, command, tmp_path)
    code, out, _ = command(ltvr.evaluate, finished / "features.pt", "--fused")
    assert code == 0 and f"{summary(finished)['metrics']['features']['all']:.2f}" in out
    assert command(ltvr.evaluate, finished, "--split", "train")[0] == 0


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_export_gives_the_modules_logits(kind, finished, tmp_path, command):
    path = tmp_path / f"model{ltvr.export.SUFFIXES[kind]}"
    code, out, err = command(ltvr.export, finished, "--format", kind, "--out", path, "--fused")
    assert code == 0 and "[B, 3, 16, 16]" in out, err
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    if kind == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        got = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        about = session.get_modelmeta().custom_metadata_map
    else:
        about = {"classes": "", "preparation": ""}  # torch fills in those that are asked for
        got = torch.export.load(path, extra_files=about).module()(images)
    assert json.loads(about["classes"]) == Run.open(finished).manifest()["classes"]
    assert f"prepare images alike: {about['preparation']}\nclasses: 0 0, 1 1, 2 2," in out
    with torch.no_grad():
        expected = load_trained(finished, "cpu")[0](images)
    torch.testing.assert_close(got.detach(), expected, rtol=1e-4, atol=1e-4)


def test_how_images_are_prepared_is_said_whole():
    said = preparation(tiny_config(), {"uint16": (3.0, 400.0)})
    assert "EXIF orientation" in said
    assert "values of type uint16 from 3 to 400 (others clipped) scaled to 0 to 255" in said


def test_a_run_goes_on_where_its_images_have_moved(command, write_images, tmp_path, no_report):
    for split, number in (("train", 16), ("test", 3)):
        names = [f"{k}/{i}.png" for k in "ab" for i in range(number)]
        write_images(tmp_path / "here" / split, names, size=16)
    config = tiny_config(
        dataset="folder", root=str(tmp_path / "here"), imbalance=1.0, batch_size=8, epochs=1,
        stages="features", lay_back_start=0.0, image_size=16,
    )  # fmt: skip
    before = ltvr.train.train(config, tmp_path / "run")["metrics"]
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "here").rename(tmp_path / "there")
    code, _, err = command(ltvr.train, "--resume", tmp_path / "run")
    assert code == 2 and "here/train is missing" in err
    assert err.endswith("; if the images have moved: --root FOLDER\n")
    arguments = "--resume", tmp_path / "run", "--root", tmp_path / "there"
    assert command(ltvr.train, *arguments)[0] == 0
    assert Run(tmp_path / "run").read_summary()["metrics"] == before
