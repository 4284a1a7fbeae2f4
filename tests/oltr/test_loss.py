"""The loss of the centroids and its gradients against loops in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import weighted_mean
from torch import nn

from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.losses.base import Outputs
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.oltr.classifier import MetaEmbedding
from ltvr.oltr.loss import CentroidLoss

E, C, B = 3, 4, 6
Y = [0, 0, 1, 3, 3, 3]
COUNTS = torch.tensor([9, 5, 2, 1])


def made(margin, weight=0.01, repel=0.02):
    torch.manual_seed(0)
    classifier = MetaEmbedding(nn.Linear(E, C)).double()
    nn.init.normal_(classifier.centroids)
    inner = CrossEntropy(NoOptions(), COUNTS)
    loss = CentroidLoss(inner, COUNTS, classifier, weight=weight, repel_weight=repel, margin=margin)
    outputs = Outputs(
        torch.randn(B, C, dtype=torch.float64, requires_grad=True),
        torch.randn(B, E, dtype=torch.float64, requires_grad=True),
    )
    return loss, classifier, outputs


def mean(loss, outputs):
    targets = Targets(torch.tensor(Y))
    loss.begin_step(targets, B)
    return weighted_mean(*loss(outputs, targets))


@pytest.mark.parametrize(("margin", "repels"), [(10.0, True), (0.5, False)])
def test_values_and_gradients_are_those_of_the_equations(margin, repels):
    weight, repel_weight = 0.3, 0.02
    loss, classifier, outputs = made(margin, weight, repel_weight)
    v, c = outputs.embeddings.detach().numpy(), classifier.centroids.detach().numpy()
    attract, away = 0.0, 0.0
    to_v, to_c = np.zeros((B, E)), np.zeros((C, E))
    for i in range(B):
        for k in range(C):
            difference = v[i] - c[k]
            if k == Y[i]:
                attract += difference @ difference / (2 * B)
                to_v[i] += weight * difference / B
                to_c[k] -= difference / (1 + Y.count(k)) / B  # whatever the weight is
            else:
                away += difference @ difference / (B * C)
                if repels:
                    to_v[i] -= weight * repel_weight * 2 * difference / (B * C)
                    to_c[k] += weight * repel_weight * 2 * difference / (B * C)
    assert (away < margin) == repels
    expected = weight * (attract + repel_weight * max(0, margin - away))
    found = mean(loss, outputs)
    cross_entropy = F.cross_entropy(outputs.logits, torch.tensor(Y)).item()
    assert found.item() == pytest.approx(cross_entropy + expected, rel=1e-12)
    found.backward()
    np.testing.assert_allclose(outputs.embeddings.grad, to_v, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(classifier.centroids.grad, to_c, rtol=1e-10, atol=1e-15)


def test_micro_batches_move_the_centroids_as_the_whole_does():
    """But for the repelling term, which is of a micro-batch."""
    loss, classifier, outputs = made(10.0, repel=0.0)
    mean(loss, outputs).backward()
    expected, classifier.centroids.grad = classifier.centroids.grad, None
    targets = Targets(torch.tensor(Y))
    loss.begin_step(targets, B)
    for part in (slice(0, None, 2), slice(1, None, 2)):
        values, weights = loss(Outputs(*(x[part] for x in outputs)), Targets(targets.labels[part]))
        ((values * weights).sum() / B).backward()
    torch.testing.assert_close(classifier.centroids.grad, expected)


def test_a_factor_on_the_loss_is_one_on_every_gradient():
    """As of a loss scale, or of a micro-batch among others."""
    gradients = []
    for factor in (1.0, 8.0):
        loss, classifier, outputs = made(10.0)
        (factor * mean(loss, outputs)).backward()
        gradients.append(classifier.centroids.grad / factor)
    torch.testing.assert_close(*gradients)


def test_the_centroids_are_the_classifiers_alone():
    loss, classifier, _ = made(10.0)
    assert not list(loss.parameters()) and not loss.state_dict()
    assert "centroids" in classifier.state_dict()
    torch.testing.assert_close(loss.weights(torch.tensor(Y)), torch.ones(B))
    assert not loss.offsets(torch.arange(C)).any()
