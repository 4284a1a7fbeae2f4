"""Modulated attention against loops over positions and channels in float64."""

import math

import numpy as np
import torch

from ltvr.oltr.attention import ModulatedAttention

D, H, W = 4, 2, 3
N = H * W


def layer():
    torch.manual_seed(0)
    return ModulatedAttention(D, H, W).double()


def softmax(values):
    e = [math.exp(v - max(values)) for v in values]
    return [v / sum(e) for v in e]


def by_hand(layer, x):
    """One image [D, N] of lists, position by position."""
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}

    def conv(name, i):
        return [
            sum(w[f"{name}.weight"][o, d, 0, 0] * x[d][i] for d in range(D)) + w[f"{name}.bias"][o]
            for o in range(D // 2)
        ]

    whole = [x[d][i] for d in range(D) for i in range(N)]
    scores = [
        sum(a * b for a, b in zip(row, whole, strict=True)) + bias
        for row, bias in zip(w["spatial.weight"], w["spatial.bias"], strict=True)
    ]
    s = softmax(scores)
    out = np.empty((D, N))
    for i in range(N):
        asked = softmax(
            [sum(a * b for a, b in zip(conv("theta", i), conv("phi", j), strict=True))
             for j in range(N)]
        )  # fmt: skip
        taken = [sum(asked[j] * conv("g", j)[o] for j in range(N)) for o in range(D // 2)]
        for d in range(D):
            r = sum(w["out.weight"][d, o, 0, 0] * taken[o] for o in range(D // 2))
            out[d, i] = x[d][i] + s[i] * r
    return out


def test_it_is_what_loops_over_the_positions_give():
    attention = layer()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, D, H, W, dtype=torch.float64)
    got = attention(x).detach().numpy()
    expected = [by_hand(attention, image.reshape(D, N).tolist()) for image in x]
    np.testing.assert_allclose(got.reshape(2, D, N), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(attention, x.requires_grad_())


def test_it_starts_as_the_identity_and_learns():
    attention, x = layer(), torch.randn(2, D, H, W, dtype=torch.float64)
    assert torch.equal(attention(x), x)
    assert all(not c.bias.any() and c.weight.any() for c in (attention.theta, attention.g))
    attention(x).square().sum().backward()
    assert attention.out.weight.grad.abs().min() > 0
