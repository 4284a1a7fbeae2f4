"""A run that begins where another stands is, to the bit, the run by itself."""

import pytest
import torch
from conftest import tiny_config

import ltvr.training
from ltvr.engine.fork import common_epochs
from ltvr.engine.interrupt import Requests
from ltvr.errors import Stopped, UserError
from ltvr.runs.folder import Run

LATE = {"epochs": 4, "lay_back_start": 0.5}


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ({}, {}, 4),
        ({}, {"gamma": 0.5}, 2),
        ({}, {"lay_back_start": 0.75, "stop_gradient": "both"}, 2),
        ({"gamma": 0.0}, {"lay_back_start": 0.75}, 3),
        ({}, {"crt_epochs": 7, "stages": ("features",)}, 4),
        ({}, {"lr": 0.3}, 0),
        ({}, {"seed": 1}, 0),
        ({}, {"epochs": 5}, 0),
        ({}, {"mask_mean": 0.4}, 0),
        ({}, {"weights": "others.pt"}, 0),
        ({}, {"root": "elsewhere", "evaluate_every": 3}, 4),
        ({"deferred_loss": "balanced-softmax", "deferred_loss_start": 0.25}, {}, 1),
        ({"weighting": "effective-number", "weighting_start": 0.75}, {"gamma": 2.0}, 2),
        ({"weighting": "effective-number"}, {}, 0),
        ({"deferred_loss": "logit-adjustment", "gamma": 0.0}, {"gamma": 0.0}, 3),
        ({"loss": "focal"}, {"deferred_loss": "focal"}, 0),
    ],
)
def test_epochs_in_common(one, other, common):
    a, b = (tiny_config(**{**LATE, **changes}) for changes in (one, other))
    assert common_epochs(a, b) == common_epochs(b, a) == common


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunk") / "run"
    with pytest.raises(Stopped, match="after epoch 2, as asked") as stopped:
        ltvr.training.train(
            tiny_config(**LATE, gamma=0.3, loss_weight=1.0), folder, requests=Requests(last_epoch=2)
        )
    assert stopped.value.status == 0
    return Run.open(folder)


def test_it_ends_as_the_run_by_itself(trunk, tmp_path, no_report):
    config = tiny_config(**LATE, stop_gradient="features", crt_epochs=2)
    ltvr.training.train(config, tmp_path / "fork", trunk=trunk.folder)
    ltvr.training.train(config, tmp_path / "alone")
    fork, alone = Run.open(tmp_path / "fork"), Run.open(tmp_path / "alone")
    assert [(r["stage"], r["epoch"], r["real_loss"]) for r in fork.records()] == [
        (r["stage"], r["epoch"], r["real_loss"]) for r in alone.records()
    ]
    for name in ("features.pt", "crt.pt"):
        own, others = (torch.load(run.folder / name)["model"] for run in (fork, alone))
        assert all(torch.equal(own[key], others[key]) for key in others)
    assert fork.manifest()["forked"] == {"run": str(trunk.folder), "epoch": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lay_back_start": 0.25}, "has 1 in common with it; stop it with --stop-after-epoch 1"),
        ({"weight_decay": 0.1}, "has 0 in common"),
        ({"select": "best"}, "say --select last"),
        ({"imbalance": 10.0}, "has 0 in common"),
    ],
)
def test_it_refuses_what_would_have_come_elsewhere(trunk, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        ltvr.training.train(
            tiny_config(**{**LATE, **changes}), tmp_path / "fork", trunk=trunk.folder
        )
    assert not (tmp_path / "fork").exists()


def test_it_refuses_an_end_that_never_comes(tmp_path):
    with pytest.raises(UserError, match="--stop-after-epoch 6: the run has 5 epochs in all"):
        ltvr.training.train(
            tiny_config(**LATE, crt_epochs=1), tmp_path / "run", requests=Requests(last_epoch=6)
        )
    assert not (tmp_path / "run").exists()
