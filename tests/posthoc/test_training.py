"""Stages that train the classifier alone, on embeddings."""

import numpy as np
import pytest
import torch
from conftest import summary, tiny_config

from ltvr.classifiers.linear import Linear
from ltvr.config.options import NoOptions
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.errors import Diverged, UserError
from ltvr.posthoc.embeddings import Embedded
from ltvr.posthoc.training import train_classifier, views_of
from ltvr.train import train


def test_views_come_by_turns():
    order, drawn = np.asarray([3, 0, 3, 3, 1, 0, 3]), np.asarray([0, 5, 2, 1])
    assert views_of(order, drawn, 4).tolist() == [1, 0, 2, 3, 1, 1, 0]
    assert views_of(order, drawn, 1).tolist() == [0] * 7


@pytest.mark.parametrize("changes", [{}, {"ema": 0.8}])
def test_of_images_that_are_not_augmented_it_is_the_stage(changes, tmp_path, no_report):
    """Same draws, same start, same steps: the same classifier, but for the order of additions."""
    config = tiny_config(
        method="baseline", augmentation="none", crt_batchnorm="eval", crt_epochs=3, **changes
    )
    train(config, tmp_path / "run")
    expected = load_trained(tmp_path / "run" / "crt.pt").network.classifier
    first = load_trained(tmp_path / "run" / "features.pt")
    data = load_data(config)
    found = [first.outputs(x) for x, _ in Batches(data.train, config, first.device).evaluate(500)]
    embeddings = torch.cat([each.embeddings for each in found])
    images = Embedded(embeddings, torch.from_numpy(data.train.labels), embeddings[None])
    before = torch.get_rng_state()
    trained = train_classifier(
        config.replaced(stages=("crt",)), first.network.classifier, images, 10
    )
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(trained.weight, expected.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(trained.bias, expected.bias, rtol=1e-3, atol=1e-4)
    assert (trained.weight - first.network.classifier.weight).abs().max() > 0.01
    assert summary(tmp_path / "run")["metrics"]["crt"]["all"] > 15


def images(number):
    embeddings = torch.randn(number, 6, generator=torch.Generator().manual_seed(0))
    return Embedded(embeddings, torch.arange(number) % 3, embeddings[None])


def test_what_cannot_be_trained_is_said():
    config, classifier = tiny_config(stages=("crt",)), Linear(NoOptions(), 6, 3)
    with pytest.raises(UserError, match="63 training images are left beside the hold-out"):
        train_classifier(config, classifier, images(63), 3)
    with pytest.raises(Diverged, match="the head crt .* 1e.06 times .*--crt-lr, or --lr-factors"):
        train_classifier(config.replaced(crt_lr=1e18), classifier, images(640), 3, 1e6)


def test_the_factor_is_on_the_learning_rate():
    config, classifier = tiny_config(stages=("crt",), crt_lr=0.2), Linear(NoOptions(), 6, 3)
    half = train_classifier(config, classifier, images(640), 3, 0.5)
    other = train_classifier(config.replaced(crt_lr=0.1), classifier, images(640), 3)
    torch.testing.assert_close(half.weight, other.weight)
    assert not torch.equal(half.weight, train_classifier(config, classifier, images(640), 3).weight)
