"""Which heads a classifier can have."""

import pytest
import torch
import torch.nn.functional as F

from ltvr.classifiers.cosine import Cosine, CosineOptions
from ltvr.classifiers.linear import Linear
from ltvr.config.options import NoOptions
from ltvr.engine.trained import load_trained
from ltvr.posthoc.catalogue import heads_of, names, trained_names


@pytest.fixture
def heads(finished):
    """The heads of the finished run with a classifier in the place of its own, by name."""
    weights = finished / "features.pt"
    trained = load_trained(weights)

    def of(classifier):
        trained.network.classifier = classifier
        return {h.name: h for h in heads_of(trained, weights, trained.config, names(), (1.0,))}

    return of


@torch.no_grad()
def test_tde_is_of_a_classifier_that_has_kept_a_moving_feature(heads):
    x, moving = torch.randn(3, 8), torch.randn(8)
    classifier = Cosine(CosineOptions(), 8, 10)
    classifier.moving_feature.copy_(moving)
    head = heads(classifier)["tde"]
    assert head.parameter == "alpha" and {0.0, 1.0, 1.5, 3.0} <= set(head.values)
    unit, along = F.normalize(x), F.normalize(moving, dim=0)
    expected = (
        16 * (unit - 1.5 * (unit @ along)[:, None] * along) @ F.normalize(classifier.weight).T
    )
    torch.testing.assert_close(head.fit(None, 1.5)(x), expected)
    none_kept = Cosine(CosineOptions(moving_feature=False), 8, 10)
    for other in (none_kept, Linear(NoOptions(), 8, 10)):
        head = heads(other)["tde"]
        assert head.fit is None and "has kept no moving feature" in head.reason


@torch.no_grad()
def test_the_bias_is_dropped_or_kept_where_there_is_one(heads):
    classifier, x = Linear(NoOptions(), 8, 10), torch.randn(3, 8)
    found = heads(classifier)
    torch.testing.assert_close(found["tau-norm-bias"].fit(None, 0.0)(x), classifier(x))
    dropped = found["tau-norm"].fit(None, 0.0)(x)
    torch.testing.assert_close(dropped, classifier(x) - classifier.bias)
    assert not torch.allclose(dropped, classifier(x))
    classifier.bias = None
    found = heads(classifier)
    assert found["tau-norm"].fit is not None
    assert found["tau-norm-bias"].fit is None and "no bias" in found["tau-norm-bias"].reason
    assert set(trained_names()) >= {"crt", "lws", "mislas"}
