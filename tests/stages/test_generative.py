"""cRT on generated samples: whose parts they are, what counts, what trains."""

import numpy as np
import pytest
import torch
from conftest import tiny_config

import ltvr.training
from ltvr.afa.plan import IGNORED
from ltvr.clock import Clock
from ltvr.errors import UserError
from ltvr.losses.base import Divisors
from ltvr.networks.build import build_network
from ltvr.runs.folder import Run
from ltvr.stages.base import Classes
from ltvr.stages.generative import Generative

COUNTS = np.array([5, 3, 2])
LABELS = torch.tensor([2, 2, 1, 0, 0, 0, 0, 1])


def stage(**options):
    return Generative(tiny_config(stages=("generative",), **options))


@pytest.mark.parametrize("groups", [1, 2])
def test_class_parts_are_of_the_first_half_and_variation_of_the_second(groups):
    plans = [
        stage(generative_gamma=2.0).plan(
            LABELS, Clock(0, "generative", 2, 50, step=k), groups, Classes(COUNTS)
        )
        for k in range(50)
    ]
    for plan in plans:
        assert plan.generated == 8  # 2 of each of 4
        assert plan.class_index.max() < 4 <= plan.variation_index.min()
        assert (LABELS[plan.class_index] == plan.labels).all()
        assert (plan.class_index % groups == plan.variation_index % groups).all()
    drawn = torch.bincount(torch.cat([plan.class_index for plan in plans]), minlength=4)
    assert drawn.min() > 70  # 100 each, whatever the classes


@pytest.mark.parametrize(("real", "number"), [(True, 4), (False, 0)])
def test_what_counts(real, number):
    found = stage(generative_real=real).targets(LABELS)
    assert found.labels.tolist() == LABELS[:number].tolist() + [IGNORED] * (8 - number)
    values = torch.arange(10.0)
    weights = torch.tensor([1.0] * number + [0.0] * (8 - number) + [1, 1])
    total = stage(generative_real=real).total(values, weights, 8, Divisors.of(weights, 8))
    counted = [*range(number), 8, 9]
    assert total.total.item() == pytest.approx(np.mean(counted))
    assert total.synthetic.item() == 8.5
    shares = stage(generative_real=real).class_shares(np.array([2.0, 2, 4]), np.array([1.0, 0, 1]))
    expected = np.array([2.0, 1, 3]) if real else np.array([1.0, 0, 1])
    np.testing.assert_allclose(shares, expected / expected.sum())


@pytest.mark.parametrize(
    ("trains", "real"), [("classifier", True), ("embedder", True), ("classifier", False)]
)
def test_what_trains(trains, real, finished, tmp_path, no_report, capsys):
    config = tiny_config(
        stages=("generative",), generative_trains=trains, generative_batchnorm="eval",
        generative_epochs=1, generative_real=real,
    )  # fmt: skip
    ltvr.training.train(config, tmp_path / "run", source=finished)
    run = Run.open(tmp_path / "run")
    before = torch.load(finished / "features.pt")["model"]
    after = torch.load(run.folder / "generative.pt")["model"]
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"classifier"} | ({"embedder"} if trains == "embedder" else set())
    (record,) = run.records()
    steps = 404 // 64
    assert sum(record["synthetic_counts"]) == steps * 32
    assert record["synthetic_loss"] > 0
    assert 0 < record["real_accuracy"] <= 100 if real else record["real_loss"] is None
    assert ("loss n/a (synthetic " in capsys.readouterr().out) == (not real)


def test_it_needs_the_two_parts_and_two_halves():
    with pytest.raises(UserError, match="this network has none; choose a method that has one"):
        stage(method="baseline")
    with pytest.raises(UserError, match="batch_size = 30: .* expected a multiple of 4"):
        stage(batch_size=30, synthesis_group=16)


def test_the_classifier_starts_afresh_or_goes_on():
    for init in ("fresh", "keep"):
        torch.manual_seed(0)
        config = tiny_config(stages=("generative",), generative_init=init)
        network = build_network(config, 10, "reference")
        before = network.classifier.state_dict()["weight"].clone()
        Generative(config).prepare(network, 5)
        same = torch.equal(before, network.classifier.state_dict()["weight"])
        assert same == (init == "keep")
