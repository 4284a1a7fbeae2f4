"""What every decomposition has from its base, and that AFA's own fast versions agree with it."""

import pytest
import torch

from ltvr import AFA, plan_synthesis
from ltvr.afa import ops
from ltvr.decompositions.base import Decomposition

LABELS = torch.tensor([0, 0, 2, 1])
BACKENDS = ["reference", *(["cpp"] if ops.extension_available() else [])]


class Halves(Decomposition):
    """A quarter of X is class-related, three quarters are not."""

    def decompose(self, x):
        return 0.25 * x, 0.75 * x


def test_enhancement_and_generation_follow_from_the_two_parts():
    x, plan = torch.randn(4, 3, 2, 2), plan_synthesis(LABELS, seed=0, step=0)
    halves = Halves()
    torch.testing.assert_close(halves(x), 1.25 * x)
    torch.testing.assert_close(halves.mask(x), 0.25 * x.abs())
    rows = halves.generate(x, plan)
    torch.testing.assert_close(rows[:4], 1.25 * x)
    for row, i, j in zip(rows[4:], plan.class_index, plan.variation_index, strict=True):
        torch.testing.assert_close(row, 0.25 * x[i] + 0.75 * x[j])
    halves.attention_addition = False
    assert halves(x) is x and torch.equal(halves.generate(x, plan)[:4], x)


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
