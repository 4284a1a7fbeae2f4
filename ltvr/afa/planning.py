"""Synthetic feature generation (SFG): which class feature meets which variation feature.

For the classes c of a mini-batch, with f_c samples each (paper, eq. 9-11)::

    R_c = f_c^-alpha / sum_c f_c^-alpha
    G_c = ceil(gamma R_c B)
    X_gen[g] = X_class[i_g] + X_var[j_g],   i_g in class c,   j_g in the batch,   j_g != i_g

Weights of the classes may take the place of eq. 9 and 10, and of the uniform draw of j.

The plan (i, j, the labels, and the inverse index of the backward) depends on the labels alone.
The host has them before the images reach the device, so the plan is made on the host and copied
asynchronously. It is a pure function of its arguments: a resumed run draws the same plan.

``plan_synthesis`` is the C++ operator; the same in NumPy, bit for bit, is in
``planning_reference.py``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ltvr.afa import ops
from ltvr.afa.checks import check_factor, check_integer, check_tensor
from ltvr.afa.plan import MOST_GENERATED, SynthesisPlan
from ltvr.errors import brief

__all__ = ["check_request", "check_weights", "most_generated", "plan_synthesis"]

_INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_MAX_BATCH = 2**32 - 1
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-100, 1e100
"""Of such weights the sum over any batch is finite, and a share of it is smaller than itself."""


def most_generated(batch: int, gamma: float, classes: int) -> int:
    """Rows that no plan of ``batch`` samples of ``classes`` classes, one group, exceeds (eq. 10).

    Raises:
        TypeError, ValueError: an argument that is not a number in its range.
    """
    batch = check_integer("batch", batch, 0, "a number of samples")
    classes = check_integer("classes", classes, 0, "a number of classes")
    gamma = _check_gamma(gamma, batch)
    return math.floor(gamma * batch) + min(batch, classes)


def plan_synthesis(
    labels: Tensor,
    *,
    gamma: float = 1.0,
    alpha: float = 4.0,
    seed: int,
    step: int,
    groups: int = 1,
    class_weights: Tensor | None = None,
    donor_weights: Tensor | None = None,
) -> SynthesisPlan:
    """Draw the synthesis plan of one mini-batch on the host (C++, microseconds).

    Donors by weight take the samples of a group for each of its rows: milliseconds for a group of a
    thousand.

    A batch of several groups is planned group by group, as if each were a batch: class frequencies
    are of the group, and so are both partners of a row. Group g holds the samples g, g + groups,
    g + 2 groups, ..., which spreads samples of one class that come in a row.

    Args:
        labels: [B] class indices >= 0 of an integer dtype, on the host.
        gamma: generated rows per real sample; G lies between gamma B and gamma B + classes, in
            each group. 0 generates nothing.
        alpha: how much the rare classes are favoured; 0 treats all classes alike.
        seed: key of the random draws, a signed 64-bit integer: the seed of the run.
        step: counter of the random draws, >= 0. No two batches of a run, over all its epochs,
            should share it.
        groups: that the batch is cut into, at least 1.
        class_weights: [C] float64 on the host, 0 or 1e-100 to 1e100. Where given, eq. 9 and 10 and
            with them ``alpha`` have no part: ceil(gamma B) rows of a group of B samples draw i
            with the weight of its class, ``class_weights[y_i]``. A group all of weight 0 has none.
        donor_weights: [C, C] or [C], of the same numbers; of [C, C] those of classes of the batch
            are read. Where given, j is drawn with the weight ``donor_weights[y_i, y_j]``, or
            ``donor_weights[y_j]`` whatever i; uniformly where all others of a group have weight 0.

    Returns:
        A plan on the host. It has no rows of a group of one sample, which has no j != i.

    Raises:
        TypeError: an argument of the wrong type, or labels of a dtype that is not an integer's.
        ValueError: labels on a device, not one-dimensional or negative; a number out of range.
    """
    labels, gamma, alpha, seed, step, groups = check_request(
        labels, gamma, alpha, seed, step, groups
    )
    check_weights(labels, class_weights, donor_weights)
    return SynthesisPlan(
        *ops.plan_synthesis(labels, gamma, alpha, seed, step, groups, class_weights, donor_weights)
    )


def check_request(
    labels: Tensor, gamma: float, alpha: float, seed: int, step: int, groups: int
) -> tuple[Tensor, float, float, int, int, int]:
    """Refuse what no plan can be made of, by name; labels come back as int64."""
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"labels: expected a tensor of integers, got {type(labels).__name__}; "
            "pass torch.as_tensor(labels)"
        )
    if labels.dtype not in _INTEGER_DTYPES:
        raise TypeError(
            f"labels: expected class indices of an integer dtype, got {labels.dtype}; "
            "pass the class indices (for one-hot or mixed labels: labels.argmax(1))"
        )
    if labels.device.type != "cpu":
        raise ValueError(
            f"labels: expected host labels, got labels on {labels.device}; pass the labels "
            "before they are copied to the device (fetching them back would make it wait)"
        )
    if labels.is_nested or labels.layout != torch.strided:
        raise TypeError(f"labels: expected a dense tensor, got layout {labels.layout}")
    if labels.dim() != 1:
        raise ValueError(
            f"labels: expected one label a sample, shape [B], got shape {list(labels.shape)}"
        )
    if labels.shape[0] > _MAX_BATCH:
        raise ValueError(f"labels: a batch of {labels.shape[0]}: expected fewer than 2^32")
    gamma = _check_gamma(gamma, labels.shape[0])
    alpha = check_factor("alpha", alpha, "0 treats all classes alike; the paper takes 4")
    seed = check_integer("seed", seed, -(2**63), "a signed 64-bit integer")
    step = check_integer("step", step, 0, "an integer >= 0 below 2^63")
    groups = check_integer("groups", groups, 1, "groups that the batch is cut into, 1 or more")
    return labels.to(torch.int64), gamma, alpha, seed, step, groups


def check_weights(
    labels: Tensor, class_weights: Tensor | None, donor_weights: Tensor | None
) -> None:
    """Refuse weights of classes that do not fit the labels, by name."""
    largest = int(labels.max()) if len(labels) else -1
    for name, weights, dimensions, form in (
        ("class_weights", class_weights, (1,), "[C]"),
        ("donor_weights", donor_weights, (1, 2), "[C] or [C, C]"),
    ):
        if weights is None:
            continue
        if not isinstance(weights, Tensor) or weights.is_nested or weights.dim() not in dimensions:
            raise TypeError(f"{name} = {brief(weights)}: expected a tensor {form}")
        shape = (weights.shape[0],) * weights.dim()
        check_tensor(name, weights, shape, torch.float64, torch.device("cpu"))
        if largest >= weights.shape[0]:
            raise ValueError(
                f"{name} of {weights.shape[0]} classes: expected more than the label {largest}"
            )
        if weights.dim() == 2:  # of thousands of classes a batch reads few, and to look is not free
            present = labels.unique()
            weights = weights[present][:, present]
        fits = (weights >= _LEAST_WEIGHT) & (weights <= _MOST_WEIGHT) | (weights == 0)
        if not fits.all():
            raise ValueError(
                f"{name}: {weights[~fits][0].item():g}: expected 0, or numbers from "
                f"{_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}"
            )


def _check_gamma(gamma: float, batch: int) -> float:
    gamma = check_factor("gamma", gamma, "generated rows per real sample; 0 for none")
    if gamma * batch > MOST_GENERATED:
        raise ValueError(
            f"gamma = {gamma}: with a batch of {batch} this asks for more than 2^24 generated "
            "rows; pass a smaller gamma"
        )
    return gamma
