"""AFA the module: its weights under the equations, its fast versions, and what it refuses."""

import pytest
import torch

from ltvr import AFA, plan_synthesis
from ltvr.afa import ops, reference
from ltvr.decompositions.base import Decomposition

LABELS = torch.tensor([0, 0, 2, 1])
BACKENDS = ["reference", *(["cpp"] if ops.extension_available() else [])]


def test_module_runs_the_reference_with_its_own_weights():
    afa = AFA(8, (2, 3), reduction=4, mask_axis="channel", mask_mean=0.25, initialisation="uniform")
    x, labels = torch.randn(4, 8, 2, 3), torch.tensor([1, 1, 0, 1])
    ws = (afa.w_q, afa.w_k, afa.w_v, afa.w_1, afa.w_2)
    options = {"mask_axis": "channel", "mask_gain": 2.0}  # mean 1/4 over 8 channels
    torch.testing.assert_close(afa(x), reference.decompose(x, *ws, **options)[0])
    plan = plan_synthesis(labels, gamma=0.5, alpha=1.0, seed=5, step=6)
    got, got_labels = afa.augment(x, labels, 0.5, 1.0, seed=5, step=6)
    torch.testing.assert_close(got, reference.augment(x, *ws, plan, **options))
    assert got_labels.tolist() == labels.tolist() + plan.labels.tolist()


def test_module_without_attention_addition_passes_features_through():
    x = torch.randn(2, 4, 2, 2)
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


@pytest.mark.parametrize("addition", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_afa_generates_what_follows_from_its_decomposition(backend, addition):
    torch.manual_seed(0)
    afa = AFA(
        24, (2, 3), reduction=4, mask_mean=0.5, initialisation="uniform", backend=backend,
        attention_addition=addition,
    )  # fmt: skip
    x, plan = torch.randn(4, 24, 2, 3), plan_synthesis(LABELS, seed=1, step=2)
    torch.testing.assert_close(afa(x), Decomposition.forward(afa, x))
    torch.testing.assert_close(afa.generate(x, plan), Decomposition.generate(afa, x, plan))
    related, variation = afa.decompose(x)
    value = (x.flatten(2) @ afa.w_v).view(x.shape)
    torch.testing.assert_close(related + variation, value)
    torch.testing.assert_close(afa.mask(x) * value, related)
    assert afa.mask(x).mean().item() == pytest.approx(0.5, rel=1e-5)
