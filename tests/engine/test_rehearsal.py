"""What a dry run measures, and what it makes of it."""

import re

import numpy as np
import pytest
import torch
from conftest import config_of, tiny_config

import ltvr.train
from ltvr.data.datasets import load_data, stub_data
from ltvr.data.longtail import imagenet_lt_counts, longtail_counts
from ltvr.engine import rehearsal
from ltvr.engine.rehearsal import MicroBatchCost, extrapolated, rehearse
from ltvr.errors import UserError
from ltvr.runs.folder import Run

CPU = torch.device("cpu")


def test_stages_are_rehearsed_with_generation_and_without(finished):
    config = tiny_config(
        epochs=6, lay_back_start=0.3, crt_epochs=3, accumulate=4, synthesis_group=16
    )
    found = rehearse(config, stub_data(config, CPU), CPU)
    assert [(p.title, p.epochs, p.steps, p.accumulate) for p in found.phases] == [
        ("features", 2, 6, 4),
        ("features", 4, 6, 4),
        ("cRT", 3, 6, 4),
    ]
    plain, generating, crt = found.phases
    assert [cost.images for cost in plain.measured] == [2, 4, 8, 16]
    assert not plain.estimated and plain.cost == plain.measured[-1]
    assert plain.step_seconds == 4 * plain.cost.seconds > 0
    assert plain.cost.generated == crt.cost.generated == 0 < generating.cost.generated
    state = torch.load(finished / "last.pt", weights_only=True)
    assert found.parameters == sum(
        value.numel() for name, value in state["model"].items() if "running" not in name
    ) - sum("num_batches" in name for name in state["model"])
    # The last.pt of features holds a momentum beside every weight.
    best = (finished / "best-features.pt").stat().st_size
    assert found.checkpoint == pytest.approx(best, rel=0.1)
    whole = best + sum(p.stat().st_size for p in finished.glob("*.pt"))  # one is being written
    assert found.folder == pytest.approx(whole, rel=0.4)
    # After 6 + 3 epochs and 2 stages 500 test images each; the check of the statistics is off.
    assert found.evaluated == 11 * 500
    config = config.replaced(features_batchnorm="real", select="best")
    settled = rehearse(config, stub_data(config, CPU), CPU)  # after each epoch, and at the end
    assert settled.evaluated - found.evaluated == 7 * 404
    trained = sum(p.epochs * 6 * p.step_seconds for p in found.phases)
    assert found.seconds == pytest.approx(trained + 5500 * found.evaluation_seconds)


def test_batches_that_a_stage_does_not_take_are_not_rehearsed():
    """Of 4 groups of 24; 64 images would be 3 groups of them, which two halves do not share."""
    stages = ("features", "generative")
    config = tiny_config(stages=stages, batch_size=96, synthesis_group=24, epochs=1, gamma=0.5)
    *_, generative = rehearse(config, stub_data(config, CPU), CPU).phases
    assert generative.cost.images == 96 and generative.cost.generated


@pytest.mark.parametrize("method", ["lws", "mislas", "oltr", "de-confound-tde"])
def test_any_stage_is_rehearsed(method):
    config = tiny_config(method=method, batch_size=4)
    phases = rehearse(config, stub_data(config, CPU), CPU).phases
    assert len(phases) == 2 and all(phase.cost.images == 4 for phase in phases)


def test_a_step_that_is_long_or_large_ends_the_measuring(monkeypatch):
    config = tiny_config(stages="features", lay_back_start=0.0)
    for limit in ({"LONG": 0.0}, {"ROOM": 0.0}):
        with monkeypatch.context() as patched:
            for name, value in limit.items():
                patched.setattr(rehearsal, name, value)
            (phase,) = rehearse(config, stub_data(config, CPU), CPU).phases
        assert [cost.images for cost in phase.measured] == [2, 4, 8]
        assert phase.estimated and phase.cost.images == 64


def test_two_images_that_do_not_fit_end_in_a_line(monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(rehearsal, "train_epoch", full)
    config = tiny_config()
    with pytest.raises(UserError, match="a step of 2 images does not fit into the .* GB"):
        rehearse(config, stub_data(config, CPU), CPU)


def test_a_larger_micro_batch_is_estimated_from_two():
    plain = [MicroBatchCost(2, 0, 1.0, 300), MicroBatchCost(4, 0, 1.5, 400)]
    generating = [MicroBatchCost(2, 2, 2.0, 350), MicroBatchCost(4, 5, 2.5, 460)]
    assert extrapolated(plain, plain, 4, 0) == plain[-1]
    # Time by the images, 1.5 s / 4; memory 50 an image more.
    assert extrapolated(plain, plain, 64, 0) == pytest.approx((64, 0, 24.0, 400 + 60 * 50))
    # Generation: 1.0 s and 60 for 5 rows, and here 100 rows.
    estimate = extrapolated(generating, plain, 64, 100)
    assert estimate == pytest.approx((64, 100, 24.0 + 20.0, 3400 + 1200))
    # Where everything generates, with the images alone.
    estimate = extrapolated(generating, [], 64, 100)
    assert estimate == pytest.approx((64, 100, 40.0, 460 + 60 * 55))
    # Of three sizes the line of least squares: 30 an image more.
    three = [
        MicroBatchCost(2, 0, 1.0, 100),
        MicroBatchCost(4, 0, 1.0, 220),
        MicroBatchCost(6, 0, 1.0, 220),
    ]
    assert extrapolated(three, three, 16, 0).peak == pytest.approx(220 + 10 * 30)
    # What a busy machine measured the wrong way round costs nothing.
    faster = [MicroBatchCost(4, 4, 1.0, 100)]
    assert extrapolated(faster, plain[1:], 8, 8) == pytest.approx((8, 8, 3.0, 800))


def test_stubs_have_the_counts_of_the_data():
    config = tiny_config()
    assert stub_data(config, CPU).counts.tolist() == load_data(config).counts.tolist()
    config = config_of(dataset="cifar100", imbalance=50)
    stub = stub_data(config, CPU)
    assert stub.counts.tolist() == longtail_counts(500, 100, 50) and len(stub.test) == 10_000
    config = config_of(dataset="imagenet-lt", image_size=224, augmentation="imagenet")
    stub = stub_data(config, CPU)
    assert stub.counts.tolist() == list(imagenet_lt_counts())
    assert (len(stub.val), len(stub.test)) == (20_000, 50_000)
    assert stub.train.images.shape == (115_846, 3, 224, 224)
    assert stub.train.images.untyped_storage().nbytes() < 300_000
    first, second = stub.train.take(np.arange(2)).images
    assert not torch.equal(first, second)


def test_stubs_of_own_images_are_counted_without_reading_them(tmp_path):
    for name, number in (("train/a", 3), ("train/b", 2), ("test/a", 4)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(number):
            (tmp_path / name / f"{i}.png").write_bytes(b"no picture")
    stub = stub_data(config_of(dataset="folder", root=str(tmp_path), image_size=96), CPU)
    assert stub.counts.tolist() == [3, 2] and len(stub.test) == 4 and stub.val is None


def test_the_command_prints_and_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--epochs", 3, "--batch-size", 8, "--lay-back-start", 0.5, "--dry-run")
    code, out, err = command(ltvr.train, *options)
    assert code == 0, err
    lines = out.splitlines()
    assert "444 random images of 16x16" in lines[1] and "last.pt" in lines[2]
    assert lines[3].startswith("features, 2 epochs of 55 steps of 8 images: ")
    assert re.match("features, 1 epoch of 55 steps of 8 images and [0-9]+ generated: ", lines[4])
    assert all(line.endswith("(measured)") for line in lines[3:6])
    assert lines[5].startswith("cRT, 5 epochs") and lines[6].startswith("whole run: about ")
    assert not list(tmp_path.iterdir())
    few = ("--epochs", 2, "--batch-size", 64, "--crt-epochs", 1, "--dry-run")
    code, _, err = command(ltvr.train, *few)
    assert code == 0 and "the stage crt is 6 steps in all, few" in err
    for refused in (("--name", "a"), ("--time-limit", "5m"), ("--resume", "auto")):
        code, _, err = command(ltvr.train, "--dry-run", *refused)
        assert code == 2 and err.count("\n") == 1 and re.search("drop|leave it out", err)
    code, _, err = command(ltvr.train, "--dry-run", "--dataset", "folder", "--imbalance", 1)
    assert code == 2 and "needs --root" in err


def test_cRT_alone_needs_no_run_to_be_rehearsed(command, finished):
    options = ("--stages", "crt", "--batch-size", 4, "--dry-run")
    assert command(ltvr.train, *options)[0] == 0
    code, out, err = command(ltvr.train, "--from", finished, *options)
    assert code == 0 and out.count("a step") == 1, err
    assert Run(finished).finished
