"""The planning of synthetic features (eq. 9-11) in NumPy.

``csrc/plan_synthesis.cpp`` gives the same bits. The equations are in ``planning.py``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ltvr.afa.plan import Int64Array, SynthesisPlan, inverse_index
from ltvr.afa.planning import check_request, check_weights

__all__ = ["plan_synthesis_reference"]

UInt64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

_CEIL_SLACK = 1e-12


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
    labels, gamma, alpha, seed, step, groups = check_request(
        labels, gamma, alpha, seed, step, groups
    )
    check_weights(labels, class_weights, donor_weights)
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
            table = np.broadcast_to(donor_weights.numpy(), (donor_weights.shape[-1],) * 2)
            drawn = [
                _donor(table[own[own_i], own], own_i, variation_bits[g : g + 1])
                for g, own_i in enumerate(i)
            ]
            j = np.asarray(drawn, np.int64)
        pairs.append(first + groups * np.stack([i, j]))
        done += len(i)

    i, j = np.concatenate(pairs, axis=1)
    arrays = (i, j, y[i], *inverse_index(i, batch), *inverse_index(j, batch))
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
