"""The equations against a slow NumPy restatement, and their gradients."""

import numpy as np
import pytest
import torch

from ltvr import plan_synthesis
from ltvr.afa import reference


def weights(channels, width, reduction=2, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(width, width)] * 3 + [
        (channels // reduction, channels),
        (channels, channels // reduction),
    ]
    return [torch.randn(s, generator=g, dtype=dtype).mul_(0.4).requires_grad_() for s in shapes]


def features(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(a, axis):
    e = np.exp(a - a.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def decompose_by_hand(x, ws, mask_axis, gain, projection):
    """Equations 1-6, one sample at a time, in NumPy."""
    w_q, w_k, w_v, w_1, w_2 = (w.detach().numpy() for w in ws)
    results = []
    for sample in x.numpy():
        flat = sample.reshape(sample.shape[0], -1)
        q, k, v = ((flat @ w) if projection == "linear" else (w @ flat) for w in (w_q, w_k, w_v))
        att = softmax(q @ k.T / np.sqrt(flat.shape[1]), 1) @ v
        s = 1 / (1 + np.exp(-(w_2 @ np.maximum(w_1 @ att.mean(1), 0))))
        mask = gain * softmax(s[:, None] * att + att, 1 if mask_axis == "spatial" else 0)
        results.append([t.reshape(sample.shape) for t in (flat + mask * v, mask * v, v - mask * v)])
    return [torch.from_numpy(np.stack(t)) for t in zip(*results, strict=True)]


@pytest.mark.parametrize("mask_axis", ["spatial", "channel"])
@pytest.mark.parametrize("projection", ["linear", "conv1x1"])
def test_decompose_follows_the_equations(mask_axis, projection):
    x = features(3, 6, 2, 4)
    ws = weights(6, 8 if projection == "linear" else 6)
    got = reference.decompose(x, *ws, mask_axis=mask_axis, mask_gain=2.5, projection=projection)
    for a, b in zip(got, decompose_by_hand(x, ws, mask_axis, 2.5, projection), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attention_addition", [True, False])
def test_augment_is_the_real_batch_then_class_plus_variation(attention_addition):
    x, ws, labels = features(5, 4, 2, 2), weights(4, 4), torch.tensor([3, 0, 0, 1, 0])
    plan = plan_synthesis(labels, gamma=1.0, alpha=4.0, seed=3, step=7)
    got = reference.augment(
        x, *ws, plan, mask_axis="spatial", attention_addition=attention_addition
    )
    enhanced, related, variation = reference.decompose(x, *ws, mask_axis="spatial")
    torch.testing.assert_close(got[:5], enhanced if attention_addition else x)
    assert plan.generated >= 5
    for row, i, j, label in zip(
        got[5:], plan.class_index, plan.variation_index, plan.labels, strict=True
    ):
        torch.testing.assert_close(row, related[i] + variation[j])
        assert label == labels[i]


@pytest.mark.parametrize("mask_axis", ["spatial", "channel"])
@pytest.mark.parametrize("projection", ["linear", "conv1x1"])
def test_gradients(mask_axis, projection):
    x, labels = features(3, 4, 2, 2).requires_grad_(), torch.tensor([0, 1, 0])
    plan = plan_synthesis(labels, seed=0, step=0)

    def batch(x, *ws):
        options = {"mask_axis": mask_axis, "mask_gain": 3.0, "projection": projection}
        return reference.augment(x, *ws, plan, **options)

    assert torch.autograd.gradcheck(batch, (x, *weights(4, 4)))
