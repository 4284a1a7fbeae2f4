"""Stages that train the classifier alone, on embeddings."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config

from ltvr.classifiers.linear import Linear
from ltvr.config.options import NoOptions
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.errors import Diverged, UserError
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.posthoc.embeddings import Embeddings
from ltvr.posthoc.training import train_classifier, views_of
from ltvr.training import train


def test_views_come_by_turns():
    order, drawn = np.asarray([3, 0, 3, 3, 1, 0, 3]), np.asarray([0, 5, 2, 1])
    assert views_of(order, drawn, 4).tolist() == [1, 0, 2, 3, 1, 1, 0]
    assert views_of(order, drawn, 1).tolist() == [0] * 7


@pytest.mark.parametrize(
    ("stage", "changes"), [("crt", {}), ("crt", {"ema": 0.8}), ("lws", {}), ("mislas", {})]
)
def test_of_images_that_are_not_augmented_it_is_the_stage(stage, changes, tmp_path, no_report):
    """Same draws, same start, same steps: the same classifier, but for the order of additions."""
    own = {f"{stage}_batchnorm": "eval", f"{stage}_epochs": 3}
    stages = ("features", stage)
    config = tiny_config(
        method="baseline", epochs=1, augmentation="none", stages=stages, **own, **changes
    )
    train(config, tmp_path / "run")
    expected = load_trained(tmp_path / "run").network.classifier.state_dict()
    first = load_trained(tmp_path / "run" / "features.pt")
    data = load_data(config)
    found = [first.outputs(x) for x, _ in Batches(data.train, config, first.device).evaluate(500)]
    embeddings = torch.cat([each.embeddings for each in found])
    images = Embeddings(embeddings, torch.from_numpy(data.train.labels), embeddings[None])
    before, start = torch.get_rng_state(), copy.deepcopy(first.network.classifier.state_dict())
    trained = train_classifier(
        config.replaced(stages=(stage,)), first.network.classifier, images, 10
    )
    assert torch.equal(torch.get_rng_state(), before) and not trained.training
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
    unmoved = {"scale": torch.ones(10)} | {f"classifier.{k}": v for k, v in start.items()} | start
    moved = {k for k, v in expected.items() if (v - unmoved[k]).abs().max() > 1e-2}
    assert moved >= {"crt": {"weight", "bias"}, "lws": {"scale"}, "mislas": {"scale"}}[stage]
    assert all(torch.equal(v, start[k]) for k, v in first.network.classifier.state_dict().items())


def images(number):
    embeddings = torch.randn(number, 6, generator=torch.Generator().manual_seed(0))
    return Embeddings(embeddings, torch.arange(number) % 3, embeddings[None])


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


def test_an_image_that_comes_once_an_epoch_is_seen_in_another_view_each():
    config = tiny_config(stages=("crt",), crt_sampler="instance", crt_epochs=2)
    classifier, plain = Linear(NoOptions(), 6, 3), images(640)

    def trained(*views):
        seen = replace(plain, views=torch.stack(views))
        return train_classifier(config, classifier, seen, 3).weight

    first, second = plain.embeddings, plain.embeddings + 1
    assert torch.equal(trained(first, first), trained(first))
    assert not torch.equal(trained(first, second), trained(first))
    assert torch.equal(trained(first, second, second), trained(first, second))


def test_a_loss_is_told_of_every_step_as_in_a_stage(monkeypatch):
    told = []
    monkeypatch.setattr(CrossEntropy, "begin_step", lambda self, of, real: told.append((of, real)))
    config, classifier = tiny_config(stages=("crt",), crt_epochs=1), Linear(NoOptions(), 6, 3)
    train_classifier(config, classifier, images(640), 3)
    assert [real for _, real in told] == [64] * 10 and all(len(of.labels) == 64 for of, _ in told)
