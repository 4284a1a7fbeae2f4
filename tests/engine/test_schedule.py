"""The learning rate: its first and last steps, and its milestones."""

from dataclasses import replace

import pytest

from ltvr.classifiers._normalised import NormalisedOptions
from ltvr.clock import Clock
from ltvr.engine.schedule import cosine, learning_rate
from ltvr.settings import load_config
from ltvr.stages.features import Features


def test_cosine_wastes_no_step():
    assert cosine(0, 10) == 1 and 0 < cosine(9, 10) < 0.03
    assert cosine(5, 10) == pytest.approx(0.5)
    warm = [cosine(step, 10, warmup=4) for step in range(10)]
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert 0 < warm[9] < warm[8] < warm[5] < 1


def ldam(epoch):
    """``adjust_learning_rate`` of LDAM-DRW: by the epoch, counted from 1."""
    number = epoch + 1
    if number <= 5:
        return 0.1 * number / 5
    return 0.1 * (0.0001 if number > 180 else 0.01 if number > 160 else 1)


@pytest.mark.parametrize("preset", ["cifar10-ir100-resnet32", "cifar100-ir100-resnet32"])
def test_the_fields_recipe_is_that_of_ldam_in_every_epoch(preset):
    ours = load_config(preset, "ltvr").effective()
    assert (ours["lay_back_start"], ours["loss_weight"], ours["gamma"]) == (0.5, 1.0, 0.5)
    stage, clock = Features(load_config(preset)), Clock(0, "features", epochs=200, steps=10)
    for epoch in range(200):
        for step in (0, 9):
            rate = learning_rate(stage, replace(clock, epoch=epoch, step=step))
            assert rate == pytest.approx(ldam(epoch), rel=1e-12), (epoch, step)


def test_a_warm_up_rises_by_the_step_or_by_the_epoch():
    clock = Clock(0, "features", epochs=4, steps=4)
    rates = {}
    for by in ("step", "epoch"):
        stage = Features(
            load_config("digits", None, {"warmup_epochs": 1.5, "warmup_by": by, "lr": 16})
        )
        points = [(0, 0), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0)]
        rates[by] = [learning_rate(stage, replace(clock, epoch=e, step=s)) for e, s in points]
    assert rates["step"][:5] == pytest.approx([1 / 7, 4 / 7, 5 / 7, 6 / 7, 1.0])
    assert rates["epoch"][:5] == pytest.approx([2 / 3, 2 / 3, 1, 1, 1])  # 2 / 1.5 is cut at 1
    assert rates["step"][5] == rates["epoch"][5] < 1  # both are at the same place of the cosine


@pytest.mark.parametrize(("classes", "alpha"), [(10, 1.0), (100, 1.5)])
def test_the_recipe_of_tde_falls_at_its_milestones(classes, alpha):
    """Warm-up of 5 epochs, x 0.01 from epoch 120 and x 0.0001 from 160 of 200."""
    config = load_config(f"cifar{classes}-ir100-bbn-resnet32", "de-confound-tde")
    stage, clock = Features(config), Clock(0, "features", epochs=200, steps=10)
    rates = {e: learning_rate(stage, replace(clock, epoch=e)) for e in (5, 119, 120, 159, 160)}
    assert rates == pytest.approx({5: 0.2, 119: 0.2, 120: 2e-3, 159: 2e-3, 160: 2e-5})
    options = config.of(NormalisedOptions)
    assert (options.tde, options.tde_alpha, options.moving_feature_decay) == (True, alpha, 0.9)
