"""What heads are fitted to, chosen on and tested on."""

import numpy as np
import pytest
import torch

from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.posthoc.embeddings import EmbeddingCache
from ltvr.posthoc.images import MOST_BYTES, MOST_VIEWS, load_images, views_of_epochs


@pytest.fixture(scope="module")
def loaded(finished, tmp_path_factory):
    """Images of the finished run with three views of each, its data, and its network."""
    trained = load_trained(finished / "features.pt")
    data = load_data(trained.config)
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache") / "made", {}, print)
    images = load_images(trained, data, cache, epochs=5, views=3, per_class=10)
    return images, data, trained


def test_values_are_chosen_on_images_that_heads_are_not_fitted_to(loaded):
    images, data, _ = loaded
    assert torch.equal(images.train.labels, torch.from_numpy(data.train.labels))
    both = torch.cat([images.fitted.labels, images.choice.labels])
    assert torch.equal(both.bincount(), images.train.labels.bincount())
    held = images.choice.labels.bincount()
    assert torch.equal(held, (images.train.labels.bincount() // 2).clamp_max(10))
    distances = torch.cdist(images.fitted.embeddings, images.choice.embeddings)
    assert distances.min() > 0 and images.fitted.views.shape[1] == len(images.fitted.labels)


def test_embeddings_are_of_inference_and_views_of_training(loaded):
    images, data, trained = loaded
    batches = Batches(data.test, trained.config, trained.device).evaluate(100)
    expected = torch.cat([trained.outputs(x).embeddings for x, _ in batches])
    torch.testing.assert_close(images.test.embeddings, expected)
    plain, views = images.train.embeddings, images.train.views
    assert views.shape == (3, *plain.shape)
    # A crop of one pixel more on each side is the image itself once in nine.
    same = (views - plain).norm(dim=2) < 1e-3
    assert ((same.float().mean(1) - 1 / 9).abs() < 0.05).all()
    assert not torch.equal(same[0], same[1]) and not torch.equal(same[1], same[2])
    assert np.isfinite(views.numpy()).all()


def test_views_are_as_many_as_are_worth_it():
    assert views_of_epochs(5, 1000) == 5 and views_of_epochs(0, 1000) == 0
    assert views_of_epochs(99, 1000) == MOST_VIEWS
    assert views_of_epochs(99, MOST_BYTES // 3) == 3 and views_of_epochs(9, 2 * MOST_BYTES) == 1
