"""CBAM and the GC block against loops over positions and channels in NumPy, in float64."""

import math

import numpy as np
import pytest
import torch
from conftest import config_of, tiny_config

from ltvr import plan_synthesis
from ltvr.afa.generation import Generation
from ltvr.decompositions.cbam import CBAM, CBAMOptions
from ltvr.decompositions.gc import GC, GCOptions
from ltvr.decompositions.gc_add import GCAdd
from ltvr.errors import UserError
from ltvr.networks.build import build_network, check_network
from ltvr.settings import load_config

LABELS = torch.tensor([0, 0, 2, 1])
KINDS = [(CBAM, CBAMOptions(cbam_reduction=2)), (GC, GCOptions(gc_reduction=2))]
KINDS += [(GCAdd, GCOptions(gc_reduction=2))]


def drawn(kind, options, channels=6, **more):
    """A decomposition in float64 whose weights are all drawn, none of them 0."""
    torch.manual_seed(0)
    module = kind(options, channels, **more).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def features(rows=4, channels=6, height=2, width=3):
    g = torch.Generator().manual_seed(1)
    return torch.randn(rows, channels, height, width, generator=g, dtype=torch.float64)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def arrays(module):
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def cbam_by_hand(module, x):
    """Mc Ms in evaluation mode, a position at a time; eq. 2 and 3 of Woo et al."""
    w, x = arrays(module), x.numpy()
    rows, channels, height, width = x.shape
    mask = np.empty_like(x)
    kernel = w["spatial.weight"][0]
    for row in range(rows):
        pooled = 0.0
        for pool in (np.mean, np.max):
            hidden = [pool(x[row, d]) for d in range(channels)]
            hidden = np.maximum(w["mlp.0.weight"] @ hidden + w["mlp.0.bias"], 0)
            pooled = pooled + w["mlp.2.weight"] @ hidden + w["mlp.2.bias"]
        of_channels = sigmoid(pooled)
        gated = of_channels[:, None, None] * x[row]
        maps = (gated.max(0), gated.mean(0))
        for r in range(height):
            for c in range(width):
                z = 0.0
                for k, plane in enumerate(maps):
                    for i in range(height):
                        for j in range(width):  # of a 7x7 kernel around (r, c)
                            z += kernel[k, i - r + 3, j - c + 3] * plane[i, j]
                scale = w["bn.weight"][0] / math.sqrt(w["bn.running_var"][0] + 1e-5)
                z = (z - w["bn.running_mean"][0]) * scale + w["bn.bias"][0]
                mask[row, :, r, c] = of_channels * sigmoid(z)
    return mask


def context_by_hand(module, x):
    """t of every row: the attention over positions, the bottleneck and its layer norm."""
    w, x = arrays(module), x.numpy().reshape(*x.shape[:2], -1)
    found = []
    for row in x:
        score = np.exp(w["attend.weight"].reshape(-1) @ row)
        context = sum(score[n] * row[:, n] for n in range(row.shape[1])) / score.sum()
        inner = len(w["transform.0.bias"])
        hidden = w["transform.0.weight"].reshape(inner, -1) @ context + w["transform.0.bias"]
        hidden = (hidden - hidden.mean()) / np.sqrt(((hidden - hidden.mean()) ** 2).mean() + 1e-5)
        gain, shift = (w[f"transform.1.{part}"].reshape(-1) for part in ("weight", "bias"))
        hidden = np.maximum(gain * hidden + shift, 0)
        found.append(w["transform.3.weight"].reshape(-1, inner) @ hidden + w["transform.3.bias"])
    return np.stack(found)[:, :, None, None]


def test_cbam_is_a_gate_of_channels_and_then_one_of_positions():
    module, x = drawn(*KINDS[0]).eval(), features()
    module.bn.running_mean.fill_(0.3)
    module.bn.running_var.fill_(2.0)
    mask = cbam_by_hand(module, x)
    related, variation = (part.detach().numpy() for part in module.decompose(x))
    np.testing.assert_allclose(related, mask * x.numpy(), rtol=1e-10)
    np.testing.assert_allclose(variation, (1 - mask) * x.numpy(), rtol=1e-10)
    np.testing.assert_allclose(module.mask(x).detach().numpy(), mask, rtol=1e-10)


def test_the_gc_block_multiplies_or_adds():
    x = features()
    multiplies, adds = (drawn(kind, options) for kind, options in KINDS[1:])
    t = context_by_hand(multiplies, x)
    related, variation = (part.detach().numpy() for part in multiplies.decompose(x))
    np.testing.assert_allclose(related, sigmoid(t) * x.numpy(), rtol=1e-10)
    np.testing.assert_allclose(variation, (1 - sigmoid(t)) * x.numpy(), rtol=1e-10)
    t = context_by_hand(adds, x)
    related, variation = (part.detach().numpy() for part in adds.decompose(x))
    np.testing.assert_allclose(related, np.broadcast_to(t, x.shape), rtol=1e-10)
    np.testing.assert_allclose(variation, x.numpy() - t, rtol=1e-10)
    np.testing.assert_allclose(adds(x).detach().numpy(), x.numpy() + t, rtol=1e-10)


def test_masks_start_as_the_authors_blocks_do():
    x = features().float()
    torch.manual_seed(0)
    related, _ = GC(GCOptions(gc_reduction=2), 6).decompose(x)
    assert torch.equal(related, x / 2)
    assert not GCAdd(GCOptions(gc_reduction=2), 6).decompose(x)[0].any()
    cbam = CBAM(CBAMOptions(cbam_reduction=2), 6)
    pooled = cbam.mlp(x.mean((2, 3))) + cbam.mlp(x.flatten(2).max(2).values)
    torch.testing.assert_close(cbam.mask(x), (pooled.sigmoid() / 2)[..., None, None].expand_as(x))


@pytest.mark.parametrize("stop", ["none", "features", "variation", "both"])
@pytest.mark.parametrize("addition", [True, False])
def test_batchnorm_of_cbam_is_moved_by_the_real_rows_once(stop, addition):
    one, other = (drawn(*KINDS[0], attention_addition=addition).train() for _ in range(2))
    other.generation = Generation(stop_gradient=stop)
    plan = plan_synthesis(LABELS, seed=0, step=0)
    one.decompose(features())
    other.generate(features(), plan)
    torch.testing.assert_close(other.bn.running_mean, one.bn.running_mean, rtol=1e-12, atol=0)
    assert one.bn.running_mean.any()


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("addition", [True, False])
def test_rows_are_generated_from_their_parts_and_every_weight_gets_its_gradient(
    kind, options, addition
):
    module, x = drawn(kind, options, attention_addition=addition), features()
    plan = plan_synthesis(LABELS, seed=0, step=0)
    related, variation = module.decompose(x)
    rows = module.generate(x, plan)
    torch.testing.assert_close(rows[:4], x + related if addition else x)
    expected = related[plan.class_index] + variation[plan.variation_index]
    torch.testing.assert_close(rows[4:], expected)
    (rows * torch.randn(rows.shape, dtype=rows.dtype)).sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("method", ["cbam", "gc", "gc-add"])
def test_a_method_builds_its_network_and_has_no_fused_kernels(method):
    config = tiny_config(method=method)
    check_network(config, "reference")
    network = build_network(config, 10, "reference")
    assert network.backend == "reference" and network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    plan = plan_synthesis(LABELS, seed=0, step=0)
    rows = network.outputs(torch.zeros(4, 3, 16, 16), plan)
    assert len(rows.logits) == 4 + plan.generated
    with pytest.raises(UserError, match="--fused: there are no fused kernels of .* --no-fused"):
        check_network(config, "cpp")


def test_a_bottleneck_without_channels_is_refused():
    with pytest.raises(UserError, match="cbam_reduction = 7: expected 1 to 6, since .* 6 channels"):
        CBAM(CBAMOptions(cbam_reduction=7), 6)
    with pytest.raises(UserError, match="gc_reduction = 4: expected 1 to 3, since"):
        GC(GCOptions(gc_reduction=4), 6)  # the layer norm of one channel is 0, whatever it is
    assert config_of(decomposition="gc-add", gc_reduction=4).architecture()["gc_reduction"] == 4


def test_the_ablations_leave_out_one_part_each():
    values = {
        name: tiny_config(method=name, lay_back_start=1 / 3).flat()
        for name in ("ltvr", "ltvr-no-generation", "ltvr-no-attention-addition")
    }
    values["ltvr-no-lay-back"] = load_config("digits", "ltvr-no-lay-back").flat()
    whole = load_config("digits", "ltvr").flat()
    changed = {
        name: {k: v for k, v in each.items() if v != whole[k] and k != "method"}
        for name, each in values.items()
    }
    tiny = changed.pop("ltvr")
    assert {k: v for k, v in changed["ltvr-no-generation"].items() if k not in tiny} == {"gamma": 0}
    without = {k: v for k, v in changed["ltvr-no-attention-addition"].items() if k not in tiny}
    assert without == {"attention_addition": False, "value_scale": 1.0}
    assert changed["ltvr-no-lay-back"] == {"lay_back_start": 0.0}
