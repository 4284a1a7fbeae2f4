"""A run that is stopped, in whatever way, and goes on: to the bit, or not without a word."""

import errno
import json
import re
import shutil
import signal
from contextlib import nullcontext

import pytest
import torch
from conftest import Killed, assert_evaluate_agrees, records, summary, tiny_config

import ltvr.evaluate
import ltvr.export
import ltvr.train
import ltvr.training
from ltvr.data.batches import Batches
from ltvr.engine.totals import EpochTotals
from ltvr.engine.trainer import Trainer
from ltvr.errors import Stopped
from ltvr.runs.folder import Run
from ltvr.settings import save_config
from ltvr.stages.options import TrainingOptions

ADD = EpochTotals.add
"""What every micro-batch ends with."""


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
            ltvr.training.resume(Run.open(folder)) if number else ltvr.training.train(
                tiny_config(), folder
            )
        if how != "kill":
            assert f"--resume {folder}" in str(stopped.value)
    monkeypatch.undo()
    ltvr.training.resume(Run.open(folder))
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    assert records(folder) == records(finished)


TINY = (
    "--method ltvr --imbalance 30 --stem stride2 --batch-size 64 --epochs 2 --lay-back-start 0.5 "
    "--stages features --device cpu --batchnorm-images 0 --out"
)


def test_a_job_that_comes_again_finds_its_run_whoever_went_on_with_it(
    tmp_path, monkeypatch, command
):
    monkeypatch.setattr(ltvr.training, "write_report", lambda run, data: run.report.write_text(""))
    job, another = (
        {"TORCHELASTIC_RUN_ID": name, "WORLD_SIZE": "1", "RANK": "0"} for name in ("1", "2")
    )
    out, begun = tmp_path / "out", (*TINY.split(), tmp_path / "out")

    def trained(arguments, environment, stop=None):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            if stop is not None:
                stop_at(stop, "terminate", patched)
            code, printed, err = command(ltvr.train, *arguments)
        assert code == (143 if stop and not environment else 0), err
        return printed

    trained(begun, job, stop=2)
    (folder,) = out.iterdir()
    trained(["--resume", folder], {}, stop=1)
    assert f"resuming {folder}\n" in trained(begun, job, stop=1)
    trained(["--resume", folder], another, stop=1)
    assert f"resuming {folder}\n" in trained(begun, job)
    assert f"{folder} has finished already; this job began it\n" in trained(begun, job)
    assert list(out.iterdir()) == [folder]
    assert "resuming" not in trained(begun, another, stop=1) and len(list(out.iterdir())) == 2


def test_a_run_stopped_while_it_evaluates_ends_as_if_it_had_not_been(
    finished, tmp_path, monkeypatch, no_report
):
    """Within the evaluation of each epoch, and within the tests that end the stages."""
    folder, evaluate = tmp_path / "stopped", Batches.evaluate
    for number in range(1, 6):  # three epochs and two tests

        def stopped(batches, size, among):
            signal.raise_signal(signal.SIGTERM)
            yield from evaluate(batches, 100)

        monkeypatch.setattr(Batches, "evaluate", stopped)
        with pytest.raises(Stopped, match=f"--resume {folder}") as asked:
            ltvr.training.resume(Run.open(folder)) if number > 1 else ltvr.training.train(
                tiny_config(), folder
            )
        assert asked.value.status == 143
        calls = 0

        def once(batches, size, among):
            nonlocal calls
            calls += 1
            return evaluate(batches, size) if calls == 1 else stopped(batches, size, among)

        monkeypatch.setattr(Batches, "evaluate", once)
        with pytest.raises(Stopped) if number < 5 else nullcontext():
            ltvr.training.resume(Run.open(folder))
    monkeypatch.undo()
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    assert records(folder) == records(finished)


def test_a_run_goes_on_with_other_evaluations(finished, tmp_path, monkeypatch, command, no_report):
    """Also one from before the option was there."""
    folder = tmp_path / "stopped"
    stop_at(3, "interrupt", monkeypatch)
    with pytest.raises(Stopped):
        ltvr.training.train(tiny_config(), folder)
    monkeypatch.undo()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("evaluate_every: 1\n", ""))
    code, out, err = command(ltvr.train, "--resume", folder, "--evaluate-every", 5)
    assert code == 0, err
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    first, *others = records(finished)
    assert records(folder) == [{**first, "eval": None}, *others]
    assert "test: all" not in out.splitlines()[1] and "test: all" in out.splitlines()[2]


def test_a_run_that_reports_its_best_goes_on_with_its_own_evaluations(
    tmp_path, monkeypatch, command, no_report
):
    """Of other epochs another one may be the best."""
    folder = tmp_path / "stopped"
    stop_at(3, "interrupt", monkeypatch)
    with pytest.raises(Stopped):
        ltvr.training.train(tiny_config(select="best"), folder)
    monkeypatch.undo()
    for which in (folder, "auto"):
        code, _, err = command(
            ltvr.train, "--resume", which, "--out", tmp_path, "--evaluate-every", 5
        )
        assert code == 2 and f"--evaluate-every decides what {folder} reports" in err
    assert command(ltvr.train, "--resume", folder, "--workers", 0)[0] == 0


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
    ltvr.training.train(config, tmp_path / "whole")
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
    ltvr.training.train(config, tmp_path / "whole")
    stop_at(13, "kill", monkeypatch)  # in the second stage
    with pytest.raises(Killed):
        ltvr.training.train(config, tmp_path / "run")
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
        ltvr.training.train(tiny_config(), folder)
    assert stopped.value.status == status
    assert torch.load(folder / "last.pt", weights_only=True)["epoch"] == 1
    monkeypatch.setattr(Trainer.__init__, "__defaults__", says)
    ltvr.training.resume(Run.open(folder))
    assert summary(folder)["metrics"] == summary(finished)["metrics"]
    assert records(folder) == records(finished)


def test_records_that_are_missing_are_said(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "metrics.jsonl").unlink()
    code, out, _ = command(ltvr.train, "--resume", folder)
    assert code == 0 and "lacks the records of features epoch 1-2, crt epoch 1;" in out


def test_other_threads_and_precision_than_before_are_said(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "run")
    state = torch.load(folder / "last.pt", weights_only=True)
    state["environment"]["threads"] += 1
    state["environment"]["fp32_precision"] = "bf16"
    torch.save(state, folder / "last.pt")
    out = command(ltvr.train, "--resume", folder)[1]
    assert f"saved with threads {state['environment']['threads']} (now" in out
    assert "fp32_precision bf16 (now none, convolutions none)" in out
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["earlier_environments"] == [state["environment"]]


def test_a_run_of_another_device_goes_on_with_this_one(finished, tmp_path, command, no_report):
    folder = shutil.copytree(finished, tmp_path / "run")
    config = (folder / "config.yaml").read_text()
    assert "device: auto" in config or "device: cpu" in config
    (folder / "config.yaml").write_text(re.sub("device: (auto|cpu)", "device: cuda", config))
    if not torch.cuda.is_available():
        assert "device" in command(ltvr.train, "--resume", folder)[2]
    said = "--resume", folder, "--device", "cpu"
    code, _, err = command(ltvr.train, *said, "--time-limit", "0.01")
    assert code == 75 and f"--resume {folder} --device cpu" in err
    assert command(ltvr.train, *said)[0] == 0


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
    "fp16, maps mixed": {"amp": "fp16", "method": "manifold-mixup", "image_size": 8},
    "partners, and generation of the mixed": {
        "mixing": "cmo",
        "cmo_plain_first": 0,
        "cmo_plain_last": 0,
        "image_size": 8,
        "insert_after": "layer2",
    },
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_resuming_with_every_kind_of_state(changes, tmp_path, monkeypatch, no_report, command):
    config = tiny_config(**{"epochs": 1, "lay_back_start": 0.0, **changes})
    ltvr.training.train(config, tmp_path / "whole")
    folder = tmp_path / "runs" / "stopped"
    accumulate = config.of(TrainingOptions).accumulate
    for step in (4 * accumulate - 1, 5 * accumulate):  # after 4 updates, then 9
        stop_at(step, "interrupt", monkeypatch)
        with pytest.raises(Stopped, match="--resume"):
            if folder.exists():
                ltvr.training.resume(Run.open(folder))
            else:
                ltvr.training.train(config, folder)
    monkeypatch.setattr(EpochTotals, "add", ADD)
    code, out, _ = command(ltvr.train, "--resume", "auto", "--out", tmp_path / "runs")
    assert code == 0 and f"resuming {folder}" in out
    assert summary(folder)["metrics"] == summary(tmp_path / "whole")["metrics"]
    assert records(folder) == records(tmp_path / "whole")
    assert_evaluate_agrees(folder, command, tmp_path)


def test_a_run_goes_on_where_its_images_have_moved(command, write_images, tmp_path, no_report):
    for split, number in (("train", 16), ("test", 3)):
        names = [f"{k}/{i}.png" for k in "ab" for i in range(number)]
        write_images(tmp_path / "here" / split, names, size=16)
    config = tiny_config(
        dataset="folder", root=str(tmp_path / "here"), imbalance=1.0, batch_size=8, epochs=1,
        stages="features", lay_back_start=0.0, image_size=16,
    )  # fmt: skip
    before = ltvr.training.train(config, tmp_path / "run")["metrics"]
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "here").rename(tmp_path / "there")
    code, _, err = command(ltvr.train, "--resume", tmp_path / "run")
    assert code == 2 and "here/train is missing" in err
    assert err.endswith("; if the images have moved: --root FOLDER\n")
    arguments = "--resume", tmp_path / "run", "--root", tmp_path / "there"
    assert command(ltvr.train, *arguments)[0] == 0
    assert Run(tmp_path / "run").read_summary()["metrics"] == before
