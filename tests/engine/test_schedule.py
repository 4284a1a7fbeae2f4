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


def test_the_fields_recipe_falls_at_its_milestones():
    """LDAM's: warm-up of 5 epochs, x 0.01 from epoch 160 and x 0.0001 from 180 of 200."""
    config = load_config("cifar10-ir100-resnet32")
    stage, clock = Features(config), Clock(0, "features", epochs=200, steps=10)
    rates = {e: learning_rate(stage, replace(clock, epoch=e)) for e in (0, 5, 159, 160, 179, 180)}
    expected = {0: 0.1 / 51, 5: 0.1, 159: 0.1, 160: 1e-3, 179: 1e-3, 180: 1e-5}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "alpha"), [(10, 1.0), (100, 1.5)])
def test_the_recipe_of_tde_falls_at_its_milestones(classes, alpha):
    """Warm-up of 5 epochs, x 0.01 from epoch 120 and x 0.0001 from 160 of 200."""
    config = load_config(f"cifar{classes}-ir100-bbn-resnet32", "de-confound-tde")
    stage, clock = Features(config), Clock(0, "features", epochs=200, steps=10)
    rates = {e: learning_rate(stage, replace(clock, epoch=e)) for e in (5, 119, 120, 159, 160)}
    assert rates == pytest.approx({5: 0.2, 119: 0.2, 120: 2e-3, 159: 2e-3, 160: 2e-5})
    options = config.of(NormalisedOptions)
    assert (options.tde, options.tde_alpha, options.moving_feature_decay) == (True, alpha, 0.9)
