"""The meta-embedding classifier against loops written from the equations, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ltvr.oltr.classifier import MetaEmbedding

E, C, R = 5, 3, 4


def classifier():
    torch.manual_seed(0)
    made = MetaEmbedding(nn.Linear(E, C)).double()
    nn.init.normal_(made.centroids)
    return made


def by_hand(made, v):
    """The logits of one embedding, a list of E numbers."""
    w = {name: p.detach().tolist() for name, p in made.named_parameters()}

    def linear(name, x):
        return [
            sum(a * b for a, b in zip(row, x, strict=True)) + bias
            for row, bias in zip(w[f"{name}.weight"], w[f"{name}.bias"], strict=True)
        ]

    e = [math.exp(value) for value in linear("hallucinator", v)]
    q = [sum(e[k] / sum(e) * w["centroids"][k][d] for k in range(C)) for d in range(E)]
    u = [math.tanh(value) for value in linear("selector", v)]
    rho = 10 / min(math.dist(v, c) for c in w["centroids"])
    meta = [rho * (v[d] + u[d] * q[d]) for d in range(E)]
    norm = math.hypot(*meta)
    return [
        16 * norm / (1 + norm)
        * sum(a * b for a, b in zip(meta, row, strict=True)) / norm / math.hypot(*row)
        for row in w["weight"]
    ]  # fmt: skip


def test_it_is_what_the_equations_give():
    made = classifier()
    v = torch.randn(R, E, dtype=torch.float64)
    np.testing.assert_allclose(
        made(v).detach().numpy(), [by_hand(made, row) for row in v.tolist()], rtol=1e-12
    )
    assert torch.autograd.gradcheck(made, v.requires_grad_())  # through the distance as well
    made(v).sum().backward()
    assert made.centroids.grad is None and all(p.grad is not None for p in made.trained())


def test_it_starts_from_the_classifier_before():
    before = nn.Linear(E, C)
    made = MetaEmbedding(before)
    assert torch.equal(made.hallucinator.weight, before.weight)
    assert torch.equal(made.hallucinator.bias, before.bias)
    made.reset_parameters()
    assert not torch.equal(made.hallucinator.weight, before.weight)
    assert made.weight.abs().max() <= E**-0.5
    assert {id(p) for p in made.parameters()} - {id(p) for p in made.trained()} == {
        id(made.centroids)
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_embedding_at_a_centroid_has_the_limit(dtype):
    """The reachability is infinite there, and v' a direction alone."""
    made = classifier().float()
    at = made.centroids.detach()[1:2].to(dtype).float()
    made.centroids.data[1] = at[0]
    v = at.to(dtype).requires_grad_()
    logits = made(v)
    near = made(at + 1e-6).detach()
    assert logits.isfinite().all() and logits.dtype == torch.float32
    torch.testing.assert_close(logits, near, rtol=1e-4, atol=1e-3)
    logits.sum().backward()
    assert v.grad.isfinite().all()
    made.centroids.data.zero_()
    assert made(torch.zeros(2, E)).isfinite().all()
