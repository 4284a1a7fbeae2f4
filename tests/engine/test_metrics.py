"""The metrics against values worked out by hand."""

import contextlib
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from ltvr.engine.accuracy_table import table
from ltvr.engine.balanced import balanced_accuracy, balanced_accuracy_error
from ltvr.engine.metrics import CalibrationError, evaluate
from ltvr.errors import Diverged


def measure(predicted, labels, counts, confidence=0.75, broken=0, **options):
    """Metrics of a model that predicts ``predicted``, each with probability ``confidence``.

    Args:
        broken: how many images have logits that are not finite.
    """
    logits = torch.full((len(labels), len(counts)), math.log((1 - confidence) / (len(counts) - 1)))
    logits[range(len(labels)), predicted] = math.log(confidence)
    logits[:broken, 1] = math.inf
    batches = [  # the model is the identity on two batches of logits
        (logits[:3], torch.tensor(labels[:3])),
        (logits[3:], torch.tensor(labels[3:])),
    ]
    return evaluate(
        torch.nn.Identity(), batches, np.asarray(counts), many_above=100, few_below=20, **options
    )


def test_by_hand():
    # Classes 0 and 1 are many-shot, 2 medium, 3 few; class 3 is found once in two.
    labels = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    predicted = [0, 0, 0, 1, 1, 1, 2, 2, 3, 0]
    got = measure(predicted, labels, [500, 101, 100, 19], confusion=True)
    assert got["all"] == pytest.approx(80)
    assert got["per_class"] == pytest.approx([75, 100, 100, 50])
    assert got["many"] == pytest.approx(87.5)
    assert got["medium"] == pytest.approx(100) and got["few"] == pytest.approx(50)
    assert got["worst_class"] == pytest.approx(50)
    f1 = [6 / 8, 4 / 5, 1.0, 2 / 3]  # 2 TP / (2 TP + FP + FN)
    assert got["macro_f1"] == pytest.approx(100 * sum(f1) / 4, rel=1e-5)
    assert got["calibration_error"] == pytest.approx(5, rel=1e-4)  # 75 % sure, 80 % right
    assert got["confusion"] == [[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [1, 0, 0, 1]]
    assert "confusion" not in measure(predicted, labels, [500, 101, 100, 19])


def test_a_class_without_images_counts_in_no_mean():
    """Even where it is predicted: class 2 for an image of class 1."""
    got = measure([0, 0, 1, 2], [0, 0, 1, 1], [500, 101, 100])
    assert got["per_class"] == [100, 50, None]
    assert got["balanced_accuracy"] == 75
    assert got["macro_f1"] == pytest.approx(100 * (1 + 2 / 3) / 2, rel=1e-5)


def test_logits_that_are_not_finite_are_no_result():
    with pytest.raises(Diverged, match="gives 2 of 4 images no probabilities"):
        measure([0, 0, 1, 1], [0, 1, 1, 0], [200, 10], broken=2)


def test_calibration_error_is_confidence_apart_from_accuracy():
    got = measure([0, 0, 1, 1], [0, 1, 1, 0], [200, 10], confidence=0.9)
    assert got["calibration_error"] == pytest.approx(100 * (0.9 - 0.5), rel=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=40),
    st.booleans(),
)
def test_balanced_accuracy_and_its_error_against_other_formulas(samples, balanced_set):
    labels, predicted = ([pair[side] for pair in samples] for side in (0, 1))
    if balanced_set:
        labels = [i % 4 for i in range(len(samples) // 4 * 4)]
        predicted = predicted[: len(labels)]
    got = measure(predicted, labels, [9, 9, 9, 9])
    with warnings.catch_warnings():  # of classes that are predicted and are not there
        warnings.simplefilter("ignore", UserWarning)
        expected = balanced_accuracy_score(labels, predicted)
    assert got["balanced_accuracy"] == pytest.approx(100 * expected)
    if balanced_set:
        assert got["balanced_accuracy"] == pytest.approx(got["all"])
    right = np.equal(labels, predicted).astype(float)
    own = [right[np.equal(labels, k)] for k in sorted(set(labels))]
    variances = [each.var() / len(each) for each in own]
    error = 100 * math.sqrt(sum(variances)) / len(own)
    assert got["balanced_accuracy_error"] == pytest.approx(error)


def test_the_error_of_balanced_accuracy_by_hand():
    """Two classes, of 4 images half right and of 16 images three quarters right."""
    per_class = [50.0, None, 75.0]
    expected = 100 * (0.5 * 0.5 / 4 + 0.75 * 0.25 / 16) ** 0.5 / 2
    assert balanced_accuracy_error(per_class, [4, 0, 16]) == pytest.approx(expected)
    assert balanced_accuracy(per_class) == 62.5


EDGES = [m / 15 for m in range(16)]
CONFIDENCES = st.one_of(st.floats(0, 1), st.floats(0, 1, width=32), st.sampled_from([0.0, *EDGES]))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=30))
def test_calibration_error_is_its_definition(samples):
    confidence, right = (np.asarray(column) for column in zip(*samples, strict=True))
    probabilities = torch.from_numpy(np.stack([confidence, np.full_like(confidence, -1)], 1))
    labels = torch.from_numpy(np.where(right, 0, 1))
    ours = CalibrationError()
    for part in range(2):  # two batches, of which one may be empty
        ours.update(probabilities[part::2], labels[part::2])
    expected = 0.0
    for low, high in zip(EDGES, EDGES[1:], strict=False):
        inside = (confidence > low) & (confidence <= high) | (confidence == 0) & (low == 0)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.sum() / len(samples) * gap
    assert float(ours.compute()) == pytest.approx(expected, abs=1e-12)


def test_a_confidence_of_one_is_in_the_last_bin():
    ours = CalibrationError()
    for confidence, label in ((1.0, 0), (0.95, 1)):
        ours.update(torch.tensor([[confidence, 1 - confidence]]), torch.tensor([label]))
    assert float(ours.compute()) == pytest.approx(abs(0.5 - 0.975))  # with a bin each, 0.475


def test_nothing_to_measure_is_not_zero():
    got = measure([0, 0, 1, 1], [0, 0, 1, 1], [300, 50, 60])
    assert got["few"] is None and got["per_class"][2] is None  # no few-shot class, no class-2 test
    assert got["medium"] == got["worst_class"] == 100
    heading, row = table({"here": got}).splitlines()
    columns = dict(zip(heading.split()[2:], row.split()[1:], strict=True))
    assert columns["Few"] == "n/a" and columns["Medium"] == columns["All"] == "100.00"


@pytest.mark.parametrize("fails", [False, True])
def test_every_part_is_left_in_the_mode_that_it_was_in(fails):
    """A frozen part stays in eval mode, and one that trains is back in its own after an error."""
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2).eval(), torch.nn.BatchNorm1d(2))

    def batches():
        yield torch.zeros(3, 2), torch.tensor([0, 1, 1])
        assert not any(part.training for part in model.modules())
        if fails:
            raise OSError("a file that is gone")

    with pytest.raises(OSError, match="gone") if fails else contextlib.nullcontext():
        evaluate(model, batches(), np.asarray([2, 1]), many_above=100, few_below=20)
    assert [part.training for part in model.modules()] == [True, False, True]
