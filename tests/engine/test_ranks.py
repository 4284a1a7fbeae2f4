"""Several ranks, in processes that talk by gloo: what they train and measure is what one would."""

import json
import shutil
import signal
from contextlib import nullcontext, redirect_stdout

import numpy as np
import pytest
import torch
from conftest import records, tiny_config
from ranked import on_ranks
from torch.nn.modules.batchnorm import _BatchNorm

import ltvr.training
from ltvr import distributed
from ltvr.data.batches import Batches
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.source import load_own
from ltvr.engine.state import StageState
from ltvr.engine.trained import load_trained
from ltvr.engine.training import network_to_train
from ltvr.errors import Stopped, UserError
from ltvr.networks.batchnorm import measure_real_statistics, running_statistics
from ltvr.runs.folder import Run
from ltvr.runs.follower import Follower
from ltvr.stages.features import Features
from ltvr.stages.generative import Generative

pytestmark = pytest.mark.forks  # they start at once so; this process must train nothing itself


# ---- training ----


def frozen(stage, network):
    """The mode in which the rows of a batch do not meet in BatchNorm."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def train_exactly(folder, changes):
    """In float64, and by BatchNorm's statistics of the start."""
    finished = Batches._finished
    Batches._finished = lambda self, images: finished(self, images).double()
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    Features.train_mode = Generative.train_mode = frozen
    name = f"{distributed.ranks()}x{changes.get('accumulate', 1)}"
    ltvr.training.train(tiny_config(**changes), folder / name)


# 6 steps of 48 images an epoch, which are 6 groups of 8.
CHANGES = {"batch_size": 48, "synthesis_group": 8, "stages": ["features"], "imbalance": 100.0}

OTHERWISE = {
    "rarity": "data-set", "donors": "confused", "combination": "swap", "keep_norms": True,
    "stop_gradient": "features", "deferred_loss": "balanced-softmax", "deferred_loss_start": 0.5,
    "stages": ["features", "generative"], "generative_epochs": 1, "generative_trains": "embedder",
}  # fmt: skip
"""Every other way of generation, and both stages that generate."""


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "ltvr"},
        {"method": "ltvr", "mixing": "mixup", "weighting": "effective-number", "ema": 0.9},
        {"method": "ltvr", "attention_addition": False, "fixed_size": True, "mixing": "cmo"},
        {"method": "ltvr", **OTHERWISE},
    ],
    ids=["ltvr", "mixed and weighted", "idle parameters", "generated otherwise"],
)
def test_ranks_and_micro_batches_train_as_one_process_does(changes, tmp_path):
    changes = {**CHANGES, **changes}
    if changes.get("mixing") == "cmo":
        changes |= {"cmo_plain_first": 0, "cmo_plain_last": 0}
    on_ranks(1, tmp_path, train_exactly, changes)
    on_ranks(2, tmp_path, train_exactly, {**changes, "accumulate": 3})
    one = tmp_path / "1x1"
    assert sum(records(one)[1]["synthetic_counts"]) >= 6 * 48
    expected = torch.load(one / "final.pt")["model"]
    for name, weights in torch.load(tmp_path / "2x3" / "final.pt")["model"].items():
        torch.testing.assert_close(weights, expected[name], rtol=1e-9, atol=1e-12, msg=name)
    for mine, theirs in zip(records(one), records(tmp_path / "2x3"), strict=True):
        assert mine["synthetic_counts"] == theirs["synthetic_counts"]
        for loss in ("real_loss", "synthetic_loss"):
            assert (mine[loss] or 0) == pytest.approx(theirs[loss] or 0, rel=1e-12)


def test_parts_that_would_tear_groups_apart_are_refused(tmp_path):
    for changes, words in (
        ({"accumulate": 4}, "batch of 64 is cut into 2 groups, which 4 micro-batches"),
        ({"accumulate": 3}, "batch_size = 64: expected a multiple of accumulate = 3"),
    ):
        with pytest.raises(UserError, match=words):
            ltvr.training.train(tiny_config(**changes), tmp_path / "run")
    # Where samples do not meet, any parts of the same size will do.
    on_ranks(1, tmp_path, train_plain, "run")


def train_plain(folder, name):
    ltvr.training.train(tiny_config(method="baseline", accumulate=16, epochs=1), folder / name)


# ---- BatchNorm ----


def printing(folder):
    """What every rank prints of a run, and what it would say of two others."""
    own = f"{distributed.ranks()}-{distributed.rank()}"
    changes = {"batch_size": 48, "synthesis_group": 12, "accumulate": 2, "epochs": 1}
    with (folder / own).open("w") as file, redirect_stdout(file):
        config = tiny_config(method="baseline", stages=["features"], **changes)
        ltvr.training.train(config, folder / f"run-{distributed.ranks()}")
    frozen_alone = tiny_config(method="baseline", stages=["crt"], crt_batchnorm="eval")
    synchronised = tiny_config(method="baseline", sync_bn=True)
    for config in (frozen_alone, synchronised):
        refused = config is synchronised and distributed.ranks() > 1
        with pytest.raises(UserError, match="takes GPUs") if refused else nullcontext():
            network_to_train(config, 10, torch.device("cpu"), pytest.fail)


def test_batchnorm_by_rank_is_said_once_with_its_number_of_images(tmp_path):
    for number in (1, 2):
        on_ranks(number, tmp_path, printing)
    first, second, one = ((tmp_path / name).read_text() for name in ("2-0", "2-1", "1-0"))
    assert first.count("BatchNorm is over the 12 images of a rank at a time") == 1
    assert first.count("--sync-bn") == 1
    assert second == "" and "epoch 1/1" in one and "BatchNorm" not in one


# ---- evaluation and statistics ----


def measure(folder, path):
    for size in (70, 300):  # of 500 images: 8 batches, or fewer than there are ranks
        trained, ranks = load_trained(path, "cpu"), distributed.ranks()
        data, config = load_own(trained.run, trained.config), trained.config
        config = config.replaced(eval_batch_size=size)
        test, training = (
            Batches(split, config, trained.device) for split in (data.test, data.train)
        )
        found = evaluate_split(trained.network, test, data.counts, confusion=True)
        measure_real_statistics(trained.network, training, config)
        statistics = {k: v.tolist() for k, v in running_statistics(trained.network).items()}
        if distributed.is_first():
            (folder / f"{ranks}-{size}.json").write_text(json.dumps([found, statistics]))


def test_no_image_is_counted_twice_or_missed(tmp_path):
    on_ranks(1, tmp_path, train_plain, "run")
    for number in (1, 3):
        on_ranks(number, tmp_path, measure, tmp_path / "run")
    for size in (70, 300):
        (expected, statistics), (found, theirs) = (
            json.loads((tmp_path / f"{number}-{size}.json").read_text()) for number in (1, 3)
        )
        error, other = expected.pop("calibration_error"), found.pop("calibration_error")
        assert found == expected and other == pytest.approx(error, rel=1e-12)
        for name, values in statistics.items():
            np.testing.assert_allclose(theirs[name], values, rtol=2e-5, atol=1e-6, err_msg=name)


# ---- checkpoints ----


def stop_and_go_on(folder):
    """A run as it is, one that the request of one rank stops after 9 steps, and that goes on."""
    ltvr.training.train(tiny_config(**CHANGES), folder / "whole")
    update, done = StageState.update, 0

    def counted(state, lr):
        nonlocal done
        update(state, lr)
        done += 1
        if done == 9 and not distributed.is_first():
            signal.raise_signal(signal.SIGTERM)

    StageState.update = counted
    with pytest.raises(Stopped) as stopped:
        ltvr.training.train(tiny_config(**CHANGES), folder / "stopped")
    assert stopped.value.status == 143
    StageState.update = update
    if distributed.is_first():
        shutil.copytree(folder / "stopped", folder / "another")
    kind = Run if distributed.is_first() else Follower
    ltvr.training.resume(kind(folder / "stopped"))


def go_on_alone(folder):
    ltvr.training.resume(Run(folder / "another"))


def test_ranks_stop_together_and_any_number_of_them_goes_on(tmp_path):
    """With BatchNorm of each rank's own, whose mean all have; within an epoch that generates."""
    on_ranks(2, tmp_path, stop_and_go_on)
    first, second = (torch.load(tmp_path / n / "final.pt")["model"] for n in ("whole", "stopped"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert records(tmp_path / "whole") == records(tmp_path / "stopped")
    at = torch.load(tmp_path / "another" / "last.pt")
    assert (at["epoch"], at["step"]) == (1, 3) and at["totals"]["sums"].shape == (2, 6)
    on_ranks(1, tmp_path, go_on_alone)
    found, expected = records(tmp_path / "another")[1], records(tmp_path / "whole")[1]
    assert found["synthetic_counts"] == expected["synthetic_counts"]
    assert found["real_loss"] == pytest.approx(expected["real_loss"], rel=0.05)
