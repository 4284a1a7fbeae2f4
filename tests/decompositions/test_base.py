"""What every decomposition has from its base: enhancement and generation of its two parts."""

import torch

from ltvr import plan_synthesis
from ltvr.decompositions.base import Decomposition

LABELS = torch.tensor([0, 0, 2, 1])


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
