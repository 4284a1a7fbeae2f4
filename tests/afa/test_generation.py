"""How rows are generated from X_class and X_var, by hand and by gradients."""

import numpy as np
import pytest
import torch

from ltvr import AFA, plan_synthesis
from ltvr.afa.generation import Generation, selected
from ltvr.afa.rarity import confused_donors, head_donors, weights_of_classes

LABELS = torch.tensor([0, 1, 1, 2, 2, 2])
PLAN = plan_synthesis(LABELS, gamma=2.0, seed=0, step=0)
OWN, OTHER = PLAN.class_index, PLAN.variation_index


def parts(seed=0):
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(6, 8, 3, 3, dtype=torch.float64, generator=random) for _ in range(3))


def test_eq_11():
    real, own, other = parts()
    assert torch.equal(Generation().rows(real, own, other, PLAN), own[OWN] + other[OTHER])


def test_an_exchange_of_variation():
    real, own, other = parts()
    rows = Generation("swap").rows(real, own, other, PLAN, value_scale=2.0)
    torch.testing.assert_close(rows, real[OWN] + (other[OTHER] - other[OWN]) / 2)


def test_an_exchange_between_equals_is_a_real_row():
    torch.manual_seed(0)
    afa = AFA(8, (3, 3), reduction=4, backend="reference", value_scale=2.0).double()
    afa.generation = Generation("swap")
    x = next(parts())[:1].expand(6, -1, -1, -1)
    rows = afa.generate(x, PLAN)
    torch.testing.assert_close(rows[6:], rows[:1].expand(PLAN.generated, -1, -1, -1))


@pytest.mark.parametrize("over", ["positions", "channels"])
def test_a_selection_takes_each_value_from_one_sample(over):
    real, own, other = parts()
    rows, values = Generation(over, 1 / 3).rows(real, own, other, PLAN), own + other
    along, number = ((1,), 3) if over == "positions" else ((2, 3), 3)  # of 9, of 8
    energy = own.square().sum(along) / (own.square() + other.square()).sum(along)
    for row, i, j in zip(rows, OWN.tolist(), OTHER.tolist(), strict=True):
        most = energy[i].flatten().argsort(descending=True)[:number]
        flat = (lambda x: x.flatten(1).T) if over == "positions" else (lambda x: x)
        expected = flat(values[j]).clone()
        expected[most] = flat(values[i])[most]
        assert torch.equal(flat(row), expected)


def test_a_selection_of_equal_parts_takes_the_first_and_never_all():
    ones = torch.ones(2, 4, 1, 1)
    assert selected(ones, ones, "channels", 0.5)[0].flatten().tolist() == [1, 1, 0, 0]
    assert selected(ones, ones, "channels", 0.99).sum() == 2 * 3
    assert selected(ones, ones, "channels", 0.01).sum() == 2
    assert selected(ones, ones, "positions", 0.5).all()  # of one position


@pytest.mark.parametrize("combination", ["add", "channels"])
def test_kept_norms_are_those_of_the_samples_own_rows(combination):
    real, own, other = parts()
    free = Generation(combination).rows(real, own, other, PLAN)
    rows = Generation(combination, keep_norms=True).rows(real, own, other, PLAN)
    lengths = real[OWN].flatten(1).norm(dim=1)
    torch.testing.assert_close(rows.flatten(1).norm(dim=1), lengths, rtol=1e-6, atol=0)
    cosine = torch.nn.functional.cosine_similarity(rows.flatten(1), free.flatten(1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def gradients(stop, combination="add", backend="reference"):
    """Of x through the generated rows alone, and whether the decomposition learns of them."""
    torch.manual_seed(0)
    afa = AFA(8, (3, 3), reduction=4, backend=backend).double()
    afa.generation = Generation(combination, stop_gradient=stop)
    x = next(parts()).requires_grad_()
    rows = afa.generate(x, PLAN)
    real = rows[:6].detach()
    rows[6:].square().sum().backward()
    return real, rows[6:].detach(), x.grad, afa.w_v.grad


@pytest.mark.parametrize("combination", ["add", "swap"])
def test_what_sends_no_gradient_back(combination):
    real, rows, x, w = gradients("none", combination)
    for stop in ("features", "variation", "both"):
        same_real, same_rows, x_of, w_of = gradients(stop, combination)
        torch.testing.assert_close(same_real, real)
        torch.testing.assert_close(same_rows, rows)
        assert (not x_of.any()) == (stop in ("features", "both"))
        assert w_of.abs().sum() > 0  # the decomposition learns of them in either case
        assert torch.equal(w_of, w) == (stop == "features")
    donors = [b for b in range(6) if b not in OWN.tolist()]
    assert not donors or gradients("variation")[2][donors].abs().sum() == 0


def test_the_real_rows_send_their_gradient_back():
    afa = AFA(8, (3, 3), reduction=4, backend="reference").double()
    afa.generation = Generation(stop_gradient="both")
    x = next(parts()).requires_grad_()
    afa.generate(x, PLAN)[:6].square().sum().backward()
    found, x.grad = x.grad, None
    afa(x).square().sum().backward()
    torch.testing.assert_close(found, x.grad)


@pytest.mark.parametrize("generation", [Generation("channels"), Generation(stop_gradient="both")])
def test_other_backends_generate_alike(generation):
    torch.manual_seed(0)
    found = []
    for backend in ("reference", "auto"):
        torch.manual_seed(0)
        afa = AFA(8, (3, 3), reduction=4, backend=backend)
        afa.generation = generation
        x = next(parts()).float().requires_grad_()
        rows = afa.generate(x, PLAN)
        rows.square().sum().backward()
        found.append((rows.detach(), x.grad, afa.w_q.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_weights_of_classes_by_hand():
    counts = np.array([8, 2, 0, 4])
    assert weights_of_classes(counts, 1.0).tolist() == [0.25, 1, 0, 0.5]
    assert weights_of_classes(counts, 0.0).tolist() == [1, 1, 0, 1]
    assert weights_of_classes(np.array([10**6, 1]), 10.0).tolist() == [1e-60, 1]
    head = head_donors(counts, 0.5)
    assert head.tolist() == [1, 0, 0, 1]
    assert head_donors(np.array([2, 2, 2]), 0.1).tolist() == [1, 0, 0]
    table = torch.tensor([[0.5, 0.5], [1e-200, 1]], dtype=torch.float64)
    assert confused_donors(table).tolist() == [[0, 0.5], [0, 0]]
