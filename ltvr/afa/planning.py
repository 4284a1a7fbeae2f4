"""Synthetic feature generation (SFG): which class feature meets which variation feature.

For the classes c of a mini-batch, with f_c samples each (paper, eq. 9-11)::

    R_c = f_c^-alpha / sum_c f_c^-alpha
    G_c = ceil(gamma R_c B)
    X_gen[g] = X_class[i_g] + X_var[j_g],   i_g in class c,   j_g in the batch,   j_g != i_g

Weights of the classes may take the place of eq. 9 and 10, and of the uniform draw of j
(``plan_synthesis``).

The plan (i, j, the labels, and the inverse index of the backward) depends on the labels alone.
The host has them before the images reach the device, so the plan is made on the host and copied
asynchronously. It is a pure function of its arguments: a resumed run draws the same plan.

``plan_synthesis`` is the C++ operator, ``plan_synthesis_reference`` the same in NumPy; the two
agree bit for bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ltvr.afa import ops
from ltvr.afa.checks import check_below, check_factor, check_integer, check_tensor, readable
from ltvr.errors import brief
from ltvr.transfer import to_device

__all__ = [
    "IGNORED",
    "SynthesisPlan",
    "check_fit",
    "check_plan",
    "most_generated",
    "plan_synthesis",
    "plan_synthesis_reference",
]

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

IGNORED = -100
"""Label of a row that counts in no loss: the default of ``torch.nn.functional.cross_entropy``."""

_INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_MAX_BATCH = 2**32 - 1
_MAX_GENERATED = 2**24
_CEIL_SLACK = 1e-12
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-100, 1e100
"""Of such weights the sum over any batch is finite, and a share of it is smaller than itself."""


class SynthesisPlan(NamedTuple):
    """The rows to generate from a batch of B samples; G rows, by group and label. All int64.

    ``X_gen[g] = X_class[class_index[g]] + X_var[variation_index[g]]`` (eq. 11). The two inverse
    indices are in compressed sparse row form: the rows that sample b gave its class feature to
    are ``class_rows[class_offsets[b] : class_offsets[b + 1]]``, ascending; the same for its
    variation. With them the gradient of ``X_class[b]`` is a sum over those rows of ``dX_gen``,
    gathered in a fixed order, without atomics.
    """

    class_index: Tensor
    """[G] i_g, the sample whose class feature row g takes."""
    variation_index: Tensor
    """[G] j_g, the sample whose variation feature row g takes; never i_g, but in ``unmixed``."""
    labels: Tensor
    """[G] the class of row g, which is the class of sample i_g."""
    class_offsets: Tensor
    """[B + 1] inverse of ``class_index``: offsets into ``class_rows``."""
    class_rows: Tensor
    """[G] inverse of ``class_index``: rows g, grouped by i_g."""
    variation_offsets: Tensor
    """[B + 1] inverse of ``variation_index``: offsets into ``variation_rows``."""
    variation_rows: Tensor
    """[G] inverse of ``variation_index``: rows g, grouped by j_g."""

    @property
    def generated(self) -> int:
        """G, the number of generated rows."""
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> SynthesisPlan:
        """Copy to ``device``, without a wait for it.

        Raises:
            ValueError: a plan whose parts do not fit each other, or no such device.
        """
        check_plan(self)
        device = _device(device)
        return SynthesisPlan(*(to_device(t, device) for t in self))

    def part(self, number: int, parts: int) -> SynthesisPlan:
        """The plan of every ``parts``-th sample from ``number`` on: of a micro-batch, or of a rank.

        Args:
            number: of the part, 0 to ``parts`` - 1.
            parts: how many there are; it divides the number of groups that the batch was planned
                in, so that both partners of a row are in one part.

        Raises:
            ValueError: parts that would tear partners apart, or no such part.
        """
        if not 0 <= number < parts:
            raise ValueError(f"number = {number}: expected 0 to {parts - 1}, for {parts} parts")
        if parts == 1:
            return self
        i, j = self.class_index.numpy(), self.variation_index.numpy()
        own = i % parts == number
        if (j % parts == number).tolist() != own.tolist():
            raise ValueError(f"parts = {parts}: expected a divisor of the groups of the plan")
        batch = len(range(number, len(self.class_offsets) - 1, parts))
        i, j = i[own] // parts, j[own] // parts
        inverse = map(torch.from_numpy, (*_invert(i, batch), *_invert(j, batch)))
        labels = self.labels[torch.from_numpy(own)]
        return SynthesisPlan(torch.from_numpy(i), torch.from_numpy(j), labels, *inverse)

    def unmixed(self) -> SynthesisPlan:
        """The same rows, each of the variation of its own sample: j = i."""
        return self._replace(
            variation_index=self.class_index,
            variation_offsets=self.class_offsets,
            variation_rows=self.class_rows,
        )

    def padded(self, rows: int) -> SynthesisPlan:
        """Lengthen to ``rows`` generated rows, so that every batch has the same shapes.

        For CUDA graphs and for ``torch.compile`` without recompiling. The rows added repeat the
        plan's own under the label ``IGNORED``: they count in no loss, and a batch normalisation
        behind them sees features like the others.

        Args:
            rows: at least G; ``most_generated`` is enough for any batch.

        Raises:
            TypeError: rows that are not a whole number.
            ValueError: fewer rows than the plan has, rows of an empty batch, or a plan that has
                left the host.
        """
        check_plan(self)
        if self.labels.device.type != "cpu":
            raise ValueError(f"a plan on {self.labels.device}: pad it on the host")
        rows = check_integer("rows", rows, 0, "a whole number of generated rows")
        batch = len(self.class_offsets) - 1
        if rows > _MAX_GENERATED:
            raise ValueError(f"rows = {rows}: expected at most 2^24")
        if rows < self.generated or rows > self.generated and not batch:
            raise ValueError(
                f"rows = {rows}: expected at least the {self.generated} of this plan, and 0 of an "
                "empty batch; most_generated(batch, gamma, classes) is enough for any batch"
            )
        repeated = np.arange(rows) % max(self.generated, 1)
        i, j = (  # a batch of one sample generates nothing: its rows are V of that sample
            index.numpy()[repeated] if self.generated else np.zeros(rows, np.int64)
            for index in (self.class_index, self.variation_index)
        )
        unused = torch.full((rows - self.generated,), IGNORED)
        inverse = map(torch.from_numpy, (*_invert(i, batch), *_invert(j, batch)))
        labels = torch.cat([self.labels, unused])
        return SynthesisPlan(torch.from_numpy(i), torch.from_numpy(j), labels, *inverse)


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
        donor_weights: [C, C], of the same numbers. Where given, j is drawn with the weight
            ``donor_weights[y_i, y_j]``; uniformly where all others of a group have weight 0.

    Returns:
        A plan on the host. It has no rows of a group of one sample, which has no j != i.

    Raises:
        TypeError: an argument of the wrong type, or labels of a dtype that is not an integer's.
        ValueError: labels on a device, not one-dimensional or negative; a number out of range.
    """
    labels, gamma, alpha, seed, step, groups = _check(labels, gamma, alpha, seed, step, groups)
    _check_weights(labels, class_weights, donor_weights)
    return SynthesisPlan(
        *ops.plan_synthesis(labels, gamma, alpha, seed, step, groups, class_weights, donor_weights)
    )


def plan_synthesis_reference(
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
    """State ``plan_synthesis`` in NumPy: same arguments, same errors, same bits."""
    labels, gamma, alpha, seed, step, groups = _check(labels, gamma, alpha, seed, step, groups)
    _check_weights(labels, class_weights, donor_weights)
    y: Int64Array = labels.numpy()
    batch = len(y)
    if (y < 0).any():
        b = int(np.argmax(y < 0))
        raise ValueError(f"labels[{b}] = {y[b]}: expected a class index >= 0")

    done = 0
    pairs: list[Int64Array] = [np.empty((2, 0), np.int64)]
    for first in range(min(groups, batch)):
        own = y[first::groups]
        # f_c, and the samples of class c: order[starts[c] : starts[c] + counts[c]]
        counts = np.unique(own, return_counts=True)[1]
        order = np.argsort(own, kind="stable")
        if class_weights is None:
            rows = _rows_of_class(counts, gamma, alpha)
            of_class = np.repeat(np.arange(len(counts)), rows)
            class_bits, variation_bits = _philox4x32(seed, step, done, len(of_class))
            # Eq. 11: i uniform in class c.
            starts = np.cumsum(counts) - counts
            i = order[starts[of_class] + _index_below(class_bits, counts[of_class])]
        else:
            weights = class_weights.numpy()[own[order]]
            number = _rows_by_weight(weights, gamma)
            class_bits, variation_bits = _philox4x32(seed, step, done, number)
            i = order[np.sort(_place_by_weight(class_bits, weights))]
        if donor_weights is None:
            # Eq. 11: j uniform in the group without i.
            j = _index_below(variation_bits, np.full(len(i), max(len(own) - 1, 0)))
            j = j + (j >= i)
        else:
            table = donor_weights.numpy()
            drawn = [
                _donor(table[own[own_i], own], own_i, variation_bits[g : g + 1])
                for g, own_i in enumerate(i)
            ]
            j = np.asarray(drawn, np.int64)
        pairs.append(first + groups * np.stack([i, j]))
        done += len(i)

    i, j = np.concatenate(pairs, axis=1)
    arrays = (i, j, y[i], *_invert(i, batch), *_invert(j, batch))
    return SynthesisPlan(*(torch.from_numpy(np.ascontiguousarray(a, np.int64)) for a in arrays))


def _rows_by_weight(weights: Float64Array, gamma: float) -> int:
    """G of a group whose samples have these weights: ceil(gamma B), or 0 where none has any."""
    if gamma == 0 or len(weights) <= 1 or not weights.any():
        return 0
    return max(1, math.ceil(gamma * len(weights) * (1 - _CEIL_SLACK)))


def _place_by_weight(bits: UInt64Array, weights: Float64Array) -> Int64Array:
    """Places drawn with ``weights``: where their sum so far first exceeds its share of the bits."""
    sums = np.cumsum(weights)
    share = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    place: Int64Array = np.searchsorted(sums, share * sums[-1], side="right").astype(np.int64)
    return place


def _donor(weights: Float64Array, i: int, bits: UInt64Array) -> int:
    """J of one row: drawn with the ``weights`` of the samples of its group, never i."""
    weights = weights.copy()
    weights[i] = 0
    if weights.any():
        return int(_place_by_weight(bits, weights)[0])
    j = int(_index_below(bits, np.array([len(weights) - 1]))[0])
    return j + (j >= i)


def _rows_of_class(counts: Int64Array, gamma: float, alpha: float) -> Int64Array:
    """G_c of a group whose classes have ``counts`` samples each (eq. 9 and 10).

    Relative to the rarest class the largest weight is 1: no overflow, and no division by zero. The
    slack drops the last ulps before the ceiling (four classes of 32 in 128 give 32 rows each, never
    33); R_c > 0 even where exp underflows, hence at least 1.
    """
    samples = counts.sum()
    if gamma == 0 or samples <= 1:
        return np.zeros(len(counts), np.int64)
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp(-alpha * np.log(counts / counts.min()))
        exact = gamma * (weights / weights.sum()) * samples
    rows: Int64Array = np.maximum(1, np.ceil(exact * (1 - _CEIL_SLACK))).astype(np.int64)
    return rows


def _philox4x32(seed: int, step: int, first: int, count: int) -> tuple[UInt64Array, UInt64Array]:
    """Philox4x32-10, key ``seed``, counters ``(g, step)`` of ``count`` rows g from ``first`` on.

    Two words of 64 bits each.
    """
    word = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    g = np.arange(first, first + count, dtype=np.uint64)
    s = np.full(count, step, dtype=np.uint64)
    c0, c1, c2, c3 = g & word, g >> half, s & word, s >> half
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> half) ^ c1 ^ np.uint64(k0),
            p1 & word,
            (p0 >> half) ^ c3 ^ np.uint64(k1),
            p0 & word,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return (c0 << half) | c1, (c2 << half) | c3


def _index_below(bits: UInt64Array, n: Int64Array) -> Int64Array:
    """``floor(bits * n / 2^64)`` for n < 2^32: indices below n."""
    half = np.uint64(32)
    high, low = bits >> half, bits & np.uint64(0xFFFFFFFF)
    below = n.astype(np.uint64)
    index: Int64Array = ((high * below + ((low * below) >> half)) >> half).astype(np.int64)
    return index


def _invert(index: Int64Array, batch: int) -> tuple[Int64Array, Int64Array]:
    """Offsets [B + 1] and rows [G]: ``rows[offsets[b] : offsets[b + 1]]`` have ``index == b``."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=batch))])
    return offsets, np.argsort(index, kind="stable")


def _check(
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


def _check_weights(
    labels: Tensor, class_weights: Tensor | None, donor_weights: Tensor | None
) -> None:
    """Refuse weights of classes that do not fit the labels, by name."""
    largest = int(labels.max()) if len(labels) else -1
    for name, weights, dimensions in (
        ("class_weights", class_weights, 1),
        ("donor_weights", donor_weights, 2),
    ):
        if weights is None:
            continue
        if not isinstance(weights, Tensor) or weights.is_nested or weights.dim() != dimensions:
            form = "[C]" if dimensions == 1 else "[C, C]"
            raise TypeError(f"{name} = {brief(weights)}: expected a tensor {form}")
        shape = (weights.shape[0],) * dimensions
        check_tensor(name, weights, shape, torch.float64, torch.device("cpu"))
        if largest >= weights.shape[0]:
            raise ValueError(
                f"{name} of {weights.shape[0]} classes: expected more than the label {largest}"
            )
        fits = (weights >= _LEAST_WEIGHT) & (weights <= _MOST_WEIGHT) | (weights == 0)
        if not fits.all():
            raise ValueError(
                f"{name}: {weights[~fits][0].item():g}: expected 0, or numbers from "
                f"{_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}"
            )


def _check_gamma(gamma: float, batch: int) -> float:
    gamma = check_factor("gamma", gamma, "generated rows per real sample; 0 for none")
    if gamma * batch > _MAX_GENERATED:
        raise ValueError(
            f"gamma = {gamma}: with a batch of {batch} this asks for more than 2^24 generated "
            "rows; pass a smaller gamma"
        )
    return gamma


def _device(device: torch.device | str) -> torch.device:
    """Parse ``device``, and refuse what this machine does not have."""
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device = {brief(device)}: expected a torch.device or its name")
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device = {brief(device)}: no such device ({reason})") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device = {brief(device)}: torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return found


def check_plan(plan: SynthesisPlan) -> None:
    """Refuse what is not a plan, and a plan whose parts contradict each other.

    On a GPU, and while a graph is traced, shapes, dtypes and devices alone: to read the numbers
    would make the host wait. ``SynthesisPlan.to`` has read them before they left the host.

    Raises:
        TypeError: not a plan, or a part that is not a tensor of int64.
        ValueError: parts that do not fit each other.
    """
    if not isinstance(plan, SynthesisPlan):
        raise TypeError(
            f"plan: expected a SynthesisPlan, got {type(plan).__name__}; call ltvr.plan_synthesis"
        )
    for name in ("labels", "class_offsets"):  # they tell G and B
        part = getattr(plan, name)
        if not isinstance(part, Tensor) or part.is_nested or part.dim() != 1:
            raise TypeError(f"plan.{name} = {brief(part)}: expected a tensor of one dimension")
    if not plan.class_offsets.shape[0]:
        raise ValueError("plan.class_offsets is empty: expected one offset more than samples")
    samples, rows = plan.class_offsets.shape[0] - 1, plan.labels.shape[0]
    for name, part in zip(SynthesisPlan._fields, plan, strict=True):
        size = samples + 1 if name.endswith("offsets") else rows
        check_tensor(f"plan.{name}", part, (size,), torch.int64, plan.labels.device)
    if not readable(*plan):
        return
    for kind in ("class", "variation"):
        index = getattr(plan, f"{kind}_index")
        check_below(f"plan.{kind}_index", index, samples)
        for part, right in zip(("offsets", "rows"), _invert(index.numpy(), samples), strict=True):
            found = getattr(plan, f"{kind}_{part}").numpy()
            if found.tobytes() != right.tobytes():
                g = int(np.argmax(found != right))
                raise ValueError(
                    f"plan.{kind}_{part}[{g}] = {found[g]}: expected {right[g]}, as it is the "
                    f"inverse of {kind}_index; make plans with ltvr.plan_synthesis"
                )


def check_fit(plan: SynthesisPlan, batch: int, device: torch.device) -> None:
    """Refuse a plan of another batch or on another device.

    Raises:
        ValueError: not a plan of ``batch`` samples on ``device``.
    """
    samples = plan.class_offsets.shape[0] - 1
    if samples != batch:
        raise ValueError(
            f"{batch} features and a plan for {samples}: expected the same number; plan this batch"
        )
    if plan.labels.device != device:
        raise ValueError(
            f"a plan on {plan.labels.device} and features on {device}: expected both on one "
            "device; plan.to(x.device) copies it"
        )
