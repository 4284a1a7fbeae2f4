"""The equations against a slow NumPy restatement, their gradients, and what the module refuses."""

import numpy as np
import pytest
import torch

from ltvr import AFA, plan_synthesis
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


def test_module_runs_the_reference_with_its_own_weights():
    afa = AFA(8, (2, 3), reduction=4, mask_axis="channel", mask_mean=0.25, initialisation="uniform")
    x, labels = features(4, 8, 2, 3).float(), torch.tensor([1, 1, 0, 1])
    ws = (afa.w_q, afa.w_k, afa.w_v, afa.w_1, afa.w_2)
    options = {"mask_axis": "channel", "mask_gain": 2.0}  # mean 1/4 over 8 channels
    torch.testing.assert_close(afa(x), reference.decompose(x, *ws, **options)[0])
    plan = plan_synthesis(labels, gamma=0.5, alpha=1.0, seed=5, step=6)
    got, got_labels = afa.augment(x, labels, 0.5, 1.0, seed=5, step=6)
    torch.testing.assert_close(got, reference.augment(x, *ws, plan, **options))
    assert got_labels.tolist() == labels.tolist() + plan.labels.tolist()


def test_module_without_attention_addition_passes_features_through():
    x = features(2, 4, 2, 2).float()
    assert AFA(4, (2, 2), reduction=2, attention_addition=False)(x) is x


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="built for 4x4"):
        AFA(4, (4, 4), reduction=2)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match=r"expected \[B, 4, H, W\]"):
        AFA(4, (4, 4), reduction=2)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="mask_axis = 'rows'"):
        AFA(4, (4, 4), reduction=2, mask_axis="rows")
    with pytest.raises(ValueError, match="backend = 'cuda'"):
        AFA(4, (4, 4), reduction=2, backend="cuda")
    assert AFA(4, (4, 4), reduction=2, projection="conv1x1")(torch.zeros(1, 4, 2, 2)).shape[2] == 2
