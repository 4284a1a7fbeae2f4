"""The synthesis plan (eq. 9-11): the C++ operator against its NumPy statement, and both by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import needs_extension
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ltvr.afa import ops
from ltvr.afa.plan import IGNORED, SynthesisPlan, check_plan
from ltvr.afa.planning import most_generated, plan_synthesis
from ltvr.afa.planning_reference import _philox4x32, plan_synthesis_reference

both = pytest.mark.parametrize(
    "plan_of",
    [pytest.param(plan_synthesis, marks=needs_extension), plan_synthesis_reference],
    ids=["cpp", "numpy"],
)

LABELS = st.one_of(
    st.lists(st.integers(0, 9), max_size=80),
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 1, 255, 256]), max_size=80),
    st.lists(st.integers(0, 2**63 - 1), max_size=20),
)
GAMMA = st.floats(0, 3)
ALPHA = st.one_of(st.sampled_from([0.0, 1.0, 4.0, 1e3, 1e308]), st.floats(0, 10))
SEED = st.integers(-(2**63), 2**63 - 1)
STEP = st.integers(0, 2**63 - 1)
GROUPS = st.integers(1, 5)
WEIGHT = st.one_of(st.just(0.0), st.sampled_from([1e-100, 1.0, 1e100]), st.floats(1e-3, 10))
WEIGHTS = st.lists(WEIGHT, min_size=25, max_size=25).map(
    lambda values: torch.tensor(values, dtype=torch.float64).view(5, 5)
)


def tensor(labels: list[int]) -> Tensor:
    return torch.tensor(labels, dtype=torch.int64)


def rows_of_class(plan: SynthesisPlan) -> dict[int, int]:
    classes, rows = plan.labels.unique(return_counts=True)
    return dict(zip(classes.tolist(), rows.tolist(), strict=True))


def assert_same(actual: SynthesisPlan, expected: SynthesisPlan) -> None:
    for name, a, e in zip(SynthesisPlan._fields, actual, expected, strict=True):
        assert a.dtype == e.dtype == torch.int64, name
        assert a.tolist() == e.tolist(), name


# ---- Properties, over arbitrary batches --------------------------------------------------------


@needs_extension
@settings(max_examples=300, deadline=None)
@given(LABELS, GAMMA, ALPHA, SEED, STEP, GROUPS)
def test_op_matches_reference_bit_for_bit(labels, gamma, alpha, seed, step, groups):
    arguments = {"gamma": gamma, "alpha": alpha, "seed": seed, "step": step, "groups": groups}
    y = tensor(labels)
    assert_same(plan_synthesis(y, **arguments), plan_synthesis_reference(y, **arguments))


@needs_extension
@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=60), GAMMA, SEED, STEP, GROUPS, WEIGHTS, st.data())
def test_op_matches_reference_under_weights(labels, gamma, seed, step, groups, weights, data):
    y, given_ = tensor(labels), {"gamma": gamma, "seed": seed, "step": step, "groups": groups}
    class_weights = weights[0]
    if data.draw(st.booleans()):
        given_["class_weights"] = class_weights
    if data.draw(st.booleans()):  # the same donors for every class
        given_["donor_weights"], weights = weights[1], weights[1].expand(5, 5)
    else:
        given_["donor_weights"] = weights
    plan = plan_synthesis(y, **given_)
    assert_same(plan, plan_synthesis_reference(y, **given_))
    check_plan(plan)
    i, j = plan.class_index, plan.variation_index
    assert (i != j).all() and (i % groups == j % groups).all()
    assert (y[i] == plan.labels).all()
    if "class_weights" in given_:
        assert (class_weights[plan.labels] > 0).all()
        sizes = [len(own) for g in range(groups) if (class_weights[own := y[g::groups]] > 0).any()]
        wanted = [math.ceil(gamma * n * (1 - 1e-12)) for n in sizes if n > 1]
        assert plan.generated == sum(wanted)
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        others = [k for k in range(a % groups, len(labels), groups) if k != a]
        assert weights[y[a], y[b]] > 0 or all(weights[y[a], y[k]] == 0 for k in others)


@both
def test_weights_are_the_chances(plan_of):
    """Four classes of 1, 2, 3 and 4 samples; i by 1, 0, 2, 1 a sample, j by a row each."""
    y = tensor([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    class_weights = torch.tensor([1.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    donors = torch.tensor(
        [[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [5, 0, 1, 0]], dtype=torch.float64
    )
    plan = plan_of(
        y, gamma=2000.0, seed=3, step=1, class_weights=class_weights, donor_weights=donors
    )
    assert plan.generated == 20_000
    i, j = plan.class_index, plan.variation_index
    chances = torch.bincount(i, minlength=10) / 20_000
    expected = torch.tensor([1, 0, 0, 2, 2, 2, 1, 1, 1, 1]) / 11
    torch.testing.assert_close(chances, expected, atol=0.01, rtol=0)

    def chances_of_j(label: int) -> Tensor:
        own = j[y[i] == label]
        return torch.bincount(own, minlength=10) / len(own)

    torch.testing.assert_close(
        chances_of_j(0), torch.tensor([0, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]), atol=0.03, rtol=0
    )
    # Nothing weighs for class 2: uniform, and each of its samples is passed over by itself.
    others = torch.full((10,), 1 / 9)
    others[3:6] = 2 / 3 / 9
    torch.testing.assert_close(chances_of_j(2), others, atol=0.01, rtol=0)
    torch.testing.assert_close(
        chances_of_j(3), torch.tensor([5, 0, 0, 1, 1, 1, 0, 0, 0, 0]) / 8, atol=0.02, rtol=0
    )


@both
@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        ({"class_weights": torch.ones(2)}, TypeError, "class_weights: expected float64"),
        ({"class_weights": torch.ones(2, 2).double()}, TypeError, "expected a tensor .C."),
        ({"class_weights": torch.ones(2).double()}, ValueError, "more than the label 2"),
        ({"class_weights": torch.tensor([1.0, -1, 0]).double()}, ValueError, "-1: expected 0, or"),
        ({"donor_weights": torch.ones(3, 2).double()}, ValueError, "expected shape .3, 3."),
        ({"donor_weights": torch.full((3, 3), math.nan).double()}, ValueError, "nan: expected 0"),
        ({"donor_weights": -torch.eye(3).double()}, ValueError, "-1: expected 0"),
    ],
)
def test_weights_that_do_not_fit(plan_of, weights, error, match):
    with pytest.raises(error, match=match):
        plan_of(tensor([0, 1, 2]), seed=0, step=0, **weights)


@both
@settings(max_examples=100, deadline=None)
@given(labels=LABELS, gamma=GAMMA, alpha=ALPHA, seed=SEED, step=STEP)
def test_invariants(plan_of, labels, gamma, alpha, seed, step):
    y = tensor(labels)
    batch, classes = len(labels), len(set(labels))
    plan = plan_of(y, gamma=gamma, alpha=alpha, seed=seed, step=step)

    assert (y[plan.class_index] == plan.labels).all()
    assert (plan.class_index != plan.variation_index).all()
    assert plan.labels.tolist() == sorted(plan.labels.tolist())
    assert set(plan.variation_index.tolist()) <= set(range(batch))
    if batch > 1 and gamma > 0:
        assert set(plan.labels.tolist()) == set(labels)
        assert gamma * batch * (1 - 1e-9) <= plan.generated <= gamma * batch + classes
    else:
        assert plan.generated == 0

    for index, offsets, rows in (
        (plan.class_index, plan.class_offsets, plan.class_rows),
        (plan.variation_index, plan.variation_offsets, plan.variation_rows),
    ):
        assert len(offsets) == batch + 1
        assert offsets[-1] == len(rows) == plan.generated
        for b in range(batch):
            wanted = [g for g, source in enumerate(index.tolist()) if source == b]
            assert rows[offsets[b] : offsets[b + 1]].tolist() == wanted


@both
@settings(max_examples=100, deadline=None)
@given(labels=LABELS, gamma=GAMMA, alpha=ALPHA, seed=SEED, groups=GROUPS, share=GROUPS)
def test_a_group_is_planned_as_a_batch_and_a_part_holds_whole_groups(
    plan_of, labels, gamma, alpha, seed, groups, share
):
    y, groups, parts = tensor(labels), groups * share, share
    whole = plan_of(y, gamma=gamma, alpha=alpha, seed=seed, step=0, groups=groups)
    assert (whole.class_index % groups == whole.variation_index % groups).all()
    assert (whole.class_index != whole.variation_index).all()
    assert (y[whole.class_index] == whole.labels).all()
    for group in range(groups):
        own = whole.labels[whole.class_index % groups == group]
        alone = plan_of(y[group::groups], gamma=gamma, alpha=alpha, seed=seed, step=0)
        assert own.tolist() == alone.labels.tolist()
        if group == 0 and groups > 1:  # its rows are the first, and so are their random numbers
            assert_same(whole.part(0, groups), alone)
    found = []
    for number in range(parts):
        part = whole.part(number, parts)
        check_plan(part)
        assert len(part.class_offsets) - 1 == len(y[number::parts])
        i, j = part.class_index * parts + number, part.variation_index * parts + number
        found += zip(i.tolist(), j.tolist(), part.labels.tolist(), strict=True)
    rows = zip(*(each.tolist() for each in whole[:3]), strict=True)
    assert sorted(found) == sorted(rows)


def test_a_part_refuses_to_tear_partners_apart():
    plan = plan_synthesis_reference(tensor([0, 1, 2, 3, 4, 5]), seed=0, step=0, groups=2)
    with pytest.raises(ValueError, match="parts = 3: expected a divisor of the groups"):
        plan.part(0, 3)


# ---- Values worked out by hand -----------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, gamma=GAMMA, alpha=ALPHA, seed=SEED, step=STEP)
def test_padded_to_a_size_that_every_batch_has(labels, gamma, alpha, seed, step):
    batch = len(labels)
    plan = plan_synthesis_reference(tensor(labels), gamma=gamma, alpha=alpha, seed=seed, step=step)
    rows, own = most_generated(batch, gamma, len(set(labels))), plan.generated
    padded = plan.padded(rows)
    assert (padded.labels[own:] == IGNORED).all()
    for name in ("class_index", "variation_index", "labels"):
        assert getattr(padded, name)[:own].equal(getattr(plan, name))
        assert len(getattr(padded, name)) == rows
    for kind in ("class", "variation"):
        index = getattr(padded, f"{kind}_index").tolist()
        offsets = getattr(padded, f"{kind}_offsets").tolist()
        groups = getattr(padded, f"{kind}_rows").tolist()
        for b in range(batch):
            found = groups[offsets[b] : offsets[b + 1]]
            assert found == [g for g, i in enumerate(index) if i == b]
    with pytest.raises(ValueError, match=f"rows = {own - 1}"):
        plan.padded(own - 1)


def test_philox_known_answer():
    # Random123's kat_vectors, philox4x32 10: key 0, counter 0.
    class_bits, variation_bits = _philox4x32(seed=0, step=0, first=0, count=1)
    assert int(class_bits[0]) == 0x6627E8D5_E169C58D
    assert int(variation_bits[0]) == 0xBC57AC4C_9B00DBD8


@both
def test_draws_follow_philox(plan_of):
    # One class of 2^8 samples, so an index is the top byte of its word; row 0, key 0, step 0.
    plan = plan_of(torch.zeros(256, dtype=torch.int64), seed=0, step=0)
    assert plan.class_index[0] == 0x66
    # 255 candidates: 0xbc57ac4c... / 2^64 * 255 = 187.6, moved up by one to jump over i = 102.
    assert plan.variation_index[0] == 188


@both
@pytest.mark.parametrize(
    ("labels", "gamma", "alpha", "rows"),
    [
        # R = 1/4 each: exactly 32, where a ceiling of 32.000000000000004 would say 33.
        ([0, 1, 2, 3] * 32, 1.0, 4.0, {0: 32, 1: 32, 2: 32, 3: 32}),
        # f = 2, 1: weights 1/16 and 1, R = 1/17 and 16/17; of 3 rows 0.18 and 2.82.
        ([5, 9, 5], 1.0, 4.0, {5: 1, 9: 3}),
        # f = 4, 2, 2: weights 1/2, 1, 1 at alpha 1; of 20 rows exactly 4, 8, 8.
        ([2, 2, 0, 1, 2, 0, 1, 2], 2.5, 1.0, {0: 8, 1: 8, 2: 4}),
        # alpha 0: all classes alike, 6 rows over 3.
        ([7, 7, 7, 7, 8, 9], 1.0, 0.0, {7: 2, 8: 2, 9: 2}),
        # R of the frequent class underflows to 0, and is positive all the same: one row.
        ([0, 0, 0, 1], 1.0, 1e308, {0: 1, 1: 4}),
        # All equal; all different.
        ([3] * 10, 1.0, 4.0, {3: 10}),
        ([4, 3, 2, 1, 0], 1.0, 4.0, {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}),
        # Nothing asked for; nothing to pair with; no batch.
        ([0, 1, 1], 0.0, 4.0, {}),
        ([6], 1.0, 4.0, {}),
        ([], 1.0, 4.0, {}),
    ],
)
def test_rows_per_class(plan_of, labels, gamma, alpha, rows):
    plan = plan_of(tensor(labels), gamma=gamma, alpha=alpha, seed=1, step=2)
    assert rows_of_class(plan) == rows
    assert plan.generated == sum(rows.values())
    assert len(plan.class_offsets) == len(plan.variation_offsets) == len(labels) + 1


@both
def test_a_pair_has_one_choice_of_variation(plan_of):
    plan = plan_of(tensor([1, 0]), seed=11, step=0)
    assert plan.labels.tolist() == [0, 1]
    assert plan.class_index.tolist() == [1, 0]
    assert plan.variation_index.tolist() == [0, 1]
    assert plan.class_offsets.tolist() == [0, 1, 2]
    assert plan.class_rows.tolist() == [1, 0]
    assert plan.variation_rows.tolist() == [0, 1]


# ---- Draws -------------------------------------------------------------------------------------


@both
def test_draws_are_uniform(plan_of):
    """Chi-square of i within its class and of (j - i) mod B over 1 ... B-1, four sigma wide."""
    labels = tensor([0] * 24 + [1] * 8)
    plan = plan_of(labels, gamma=2000.0, alpha=0.0, seed=3, step=5)

    def excess(cells: Tensor) -> float:
        expected = cells.sum() / len(cells)
        chi_square = ((cells - expected) ** 2 / expected).sum().item()
        freedom = len(cells) - 1
        return (chi_square - freedom) / math.sqrt(2 * freedom)

    drawn = plan.class_index.bincount(minlength=32)
    distance = ((plan.variation_index - plan.class_index) % 32).bincount(minlength=32)
    assert distance[0] == 0
    for cells in (drawn[:24], drawn[24:], distance[1:]):
        assert abs(excess(cells.double())) < 4


@both
def test_pure_function_of_labels_seed_and_step(plan_of):
    labels = torch.arange(64) % 10
    plan = plan_of(labels, seed=1, step=1)
    assert_same(plan_of(labels.clone(), seed=1, step=1), plan)
    for seed, step in ((2, 1), (1, 2), (1 + 2**32, 1), (1, 1 + 2**32)):
        other = plan_of(labels, seed=seed, step=step)
        assert other.class_index.tolist() != plan.class_index.tolist()
        assert other.variation_index.tolist() != plan.variation_index.tolist()


@needs_extension
def test_same_on_any_number_of_threads():
    labels = torch.arange(1024) ** 2 % 100
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = plan_synthesis(labels, seed=1, step=1)
        torch.set_num_threads(4)
        assert_same(plan_synthesis(labels, seed=1, step=1), alone)
    finally:
        torch.set_num_threads(before)


@both
def test_layout_and_dtype_of_the_labels_do_not_matter(plan_of):
    labels = torch.arange(40) % 7
    plan = plan_of(labels, seed=1, step=1)
    assert_same(plan_of(labels.repeat_interleave(3)[::3], seed=1, step=1), plan)
    assert_same(plan_of(labels.to(torch.uint8), seed=np.int64(1), step=1), plan)
    assert_same(plan.to("cpu"), plan)


# ---- Refusals ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": tensor([0, 1, 2, -1, -5])}, ValueError, r"labels\[3\] = -1"),
        ({"labels": torch.zeros(4)}, TypeError, "integer dtype, got torch.float32"),
        ({"labels": torch.zeros(4, dtype=torch.bool)}, TypeError, "got torch.bool"),
        ({"labels": [0, 1]}, TypeError, "expected a tensor of integers, got list"),
        ({"labels": tensor([[0, 1]])}, ValueError, r"shape \[1, 2\]"),
        ({"labels": torch.tensor(1)}, ValueError, r"shape \[\]"),
        ({"gamma": math.nan}, ValueError, "gamma = nan"),
        ({"gamma": -0.5}, ValueError, "gamma = -0.5"),
        ({"gamma": 1e12}, ValueError, "more than 2\\^24 generated rows"),
        ({"gamma": "1"}, TypeError, "gamma = '1'"),
        ({"alpha": math.inf}, ValueError, "alpha = inf"),
        ({"alpha": -1}, ValueError, "alpha = -1"),
        ({"step": -1}, ValueError, "step = -1"),
        ({"step": 1.5}, TypeError, "step = 1.5"),
        ({"seed": 2**63}, ValueError, "seed = 9223372036854775808"),
    ],
)
def test_refuses_by_name(plan_of, change, error, message):
    arguments = {"labels": tensor([0, 1, 1]), "gamma": 1.0, "alpha": 4.0, "seed": 0, "step": 0}
    arguments |= change
    with pytest.raises(error, match=message):
        plan_of(arguments.pop("labels"), **arguments)


@both
def test_refuses_labels_on_a_device(plan_of):
    with FakeTensorMode():
        labels = torch.zeros(4, dtype=torch.int64, device="cuda")
    with pytest.raises(ValueError, match="expected host labels, got labels on cuda"):
        plan_of(labels, seed=0, step=0)


@needs_extension
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(4), 1.0, 4.0, 0, 0, 1), TypeError, "labels: expected int64, got Float"),
        ((tensor([[0]]), 1.0, 4.0, 0, 0, 1), ValueError, r"shape \[1, 1\]"),
        ((tensor([0, -7]), 1.0, 4.0, 0, 0, 1), ValueError, r"labels\[1\] = -7"),
        ((tensor([0]), math.nan, 4.0, 0, 0, 1), ValueError, "gamma = nan"),
        ((tensor([0]), 1e10, 4.0, 0, 0, 1), ValueError, "gamma = 1e\\+10"),
        ((tensor([0]), 1.0, -1.0, 0, 0, 1), ValueError, "alpha = -1"),
        ((tensor([0]), 1.0, 4.0, 0, -1, 1), ValueError, "step = -1"),
        ((tensor([0]), 1.0, 4.0, 0, 0, 1, torch.ones(1)), TypeError, "class_weights: .* float64"),
        ((tensor([1]), 1.0, 4.0, 0, 0, 1, torch.ones(1).double()), ValueError, "the label 1"),
        ((tensor([0]), 1.0, 4.0, 0, 0, 1, -torch.ones(1).double()), ValueError, "got -1"),
        (
            (tensor([0]), 1.0, 4.0, 0, 0, 1, None, torch.ones(1, 2).double()),
            ValueError,
            r"\[C, C\]",
        ),
        (
            (tensor([0, 2]), 1.0, 4.0, 0, 0, 1, None, -torch.eye(3).double()),
            ValueError,
            "donor_weights: .* got -1",
        ),
    ],
)
def test_the_operator_itself_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        ops.plan_synthesis(*arguments)


# ---- Registration ------------------------------------------------------------------------------


@needs_extension
@pytest.mark.parametrize("labels", [[3, 1, 1, 0, 2, 2, 2], [4], []])
def test_opcheck(labels):
    op = torch.ops.ltvr.plan_synthesis.default
    torch.library.opcheck(op, (tensor(labels), 1.0, 4.0, 7, 3, 2))
    weights = torch.ones(4, 4, dtype=torch.float64)
    torch.library.opcheck(op, (tensor([0, 1, 3]), 1.0, 4.0, 7, 3, 1, weights[0], weights))


def test_says_how_to_build_a_missing_extension(tmp_path: Path):
    reason = ops._load_extension(tmp_path)
    assert reason is not None
    for part in ("not built", "C++ compiler", "g++", "pip install --no-build-isolation -e ."):
        assert part in reason


def test_the_best_extension_of_those_built_is_loaded(tmp_path: Path, monkeypatch):
    for name in ("avx2", "default"):
        (tmp_path / f"_C_{name}.so").write_bytes(b"")
    for capability, expected in {"AVX512": "avx2", "AVX2": "avx2", "DEFAULT": "default"}.items():
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert f"_C_{expected}.so was built for" in (ops._load_extension(tmp_path) or "")


def test_says_for_which_torch_a_broken_extension_was_built(tmp_path: Path):
    (tmp_path / "_C_default.so").write_bytes(b"\0ltvr built for torch 1.2.3\0")
    reason = ops._load_extension(tmp_path)
    assert reason is not None
    for part in ("torch 1.2.3", torch.__version__, "_C_default.so", "pip install"):
        assert part in reason


@needs_extension
@pytest.mark.parametrize(
    "stale, asked",
    [
        # An operator is missing: here all of them, as nothing is loaded.
        (
            "torch.ops.load_library = lambda path: None",
            "ops.require_extension()",
        ),
        # An operator takes other arguments.
        (
            "define = torch.library.define\n"
            "torch.library.define = lambda n, s: define(n, s.replace('int seed, ', ''))",
            "pass",
        ),
    ],
    ids=["missing", "other arguments"],
)
def test_an_extension_of_other_sources_is_to_be_built_again(stale, asked):
    code = f"import torch\n{stale}\nfrom ltvr.afa import ops\n{asked}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    said = ended.stderr.splitlines()[-1]
    assert "built from other sources: its operator plan_synthesis is missing" in said
    assert "pip install --no-build-isolation -e ." in said


def test_a_missing_extension_is_reported_at_the_first_call(monkeypatch):
    monkeypatch.setattr(ops, "_why_missing", "not built; install g++")
    assert not ops.extension_available()
    with pytest.raises(RuntimeError, match="install g"):
        ops.require_extension()
