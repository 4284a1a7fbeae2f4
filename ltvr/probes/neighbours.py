"""Which real rows are near generated ones: those of the class donor, or of the variation donor?"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ltvr.data.longtail import Int64Array
from ltvr.probes.figures import draw_neighbours
from ltvr.probes.lines import Line, Section, Subsets
from ltvr.probes.rows import Generated, Rows

__all__ = ["METRICS", "nearest", "neighbours"]

Metric = Literal["cosine", "L2"]
METRICS: dict[str, Metric] = {"embedding": "cosine", "head's input": "L2"}
"""By space."""
BLOCK = 1024
"""Rows whose distances are in memory at once."""
MOST_QUERIES = 200
"""Real rows of a class whose neighbours are looked up."""


def nearest(
    rows: Tensor, real: Tensor, k: int, metric: Metric, without: Int64Array | None = None
) -> Int64Array:
    """The positions of the k nearest real rows of each row, the nearest first: [Q, k].

    ``cosine``: by falling ``<x, y> / (|x| |y|)``; ``L2``: by rising ``|x - y|``.

    Args:
        rows: [Q, F].
        real: [n, F].
        without: [Q, m] positions of real rows that are passed over, of each row.
    """
    if metric == "cosine":
        rows, real = F.normalize(rows), F.normalize(real)
        half_squares = torch.zeros(len(real))
    else:
        centre = real.mean(0)  # the differences of large numbers would lose digits
        rows, real = rows - centre, real - centre
        half_squares = real.square().sum(1) / 2
    found = []
    for first in range(0, len(rows), BLOCK):
        near = rows[first : first + BLOCK] @ real.T - half_squares  # |x|^2 / 2 is alike for all
        if without is not None:
            near.scatter_(1, torch.from_numpy(without[first : first + BLOCK]), -torch.inf)
        found.append(near.topk(k, dim=1).indices)
    return torch.cat(found).numpy()


def neighbours(real: Rows, generated: Generated | None, subsets: Subsets, k: int) -> Section:
    """Whose label the k nearest real rows of generated rows have, and those of real rows.

    Args:
        real: of the training images.
        k: at least 1; fewer where there are not so many real rows.
    """
    lines: list[Line] = []
    k = min(k, len(real.labels) - 3)
    for space, metric in METRICS.items():
        points = real.space(space)
        if generated is not None:
            lines += _of_generated(points, real.labels, generated, subsets, k, space, metric)
        chosen = _queries(real.labels)
        near = nearest(points[chosen], points, k, metric, chosen[:, None])
        same = real.labels[near] == real.labels[chosen, None]
        of_real = {f"{k} nearest: own class": same.mean(1), "nearest: own class": same[:, 0]}
        lines += [
            subsets.line(measure, "real", values, real.labels[chosen], space=space)
            for measure, values in of_real.items()
        ]
    shares = subsets.counts / subsets.counts.sum()
    lines.append(
        subsets.line_of("own class, by chance", "real", (100 * shares).tolist(), space="any")
    )
    formulas = [
        f"Of each generated row X_class[i] + X_var[j], label y_i, the {k} nearest real training "
        "rows: the share that has the label y_i of the class donor, the label y_j of the variation "
        "donor, and neither. Nearest by the cosine of the embeddings, and by the Euclidean "
        "distance of the head's inputs [D, H, W].",
        "Rows of two labels alone (y_i is not y_j). The two donors themselves are passed over, as "
        "a real row passes over itself (leave one out): otherwise a row would be found near what "
        "it was made of. How often one of them is the very nearest is said apart.",
        f"Real rows: at most {MOST_QUERIES} of each class. By chance: the share of the training "
        "images that are of the class.",
    ]
    figures = {"neighbours": draw_neighbours(lines, k)}
    title = "Generated rows and their neighbours"
    return Section("neighbours", title, lines, formulas, figures=figures)


def _of_generated(
    points: Tensor,
    labels: Int64Array,
    generated: Generated,
    subsets: Subsets,
    k: int,
    space: str,
    metric: Metric,
) -> list[Line]:
    i, j = generated.class_donor, generated.variation_donor
    two = labels[i] != labels[j]
    if not two.any():  # as where every donor is the row's own (--donors self)
        return []
    i, j = i[two], j[two]
    rows = generated.rows.space(space)[torch.from_numpy(two)]
    near = nearest(rows, points, k, metric, np.stack([i, j], axis=1))
    of_class, of_variation = (labels[near] == labels[donor, None] for donor in (i, j))
    first = nearest(rows, points, 1, metric)[:, 0]
    found = {
        f"{k} nearest: own class": of_class.mean(1),
        f"{k} nearest: class of the variation donor": of_variation.mean(1),
        f"{k} nearest: neither": 1 - of_class.mean(1) - of_variation.mean(1),
        "nearest: own class": of_class[:, 0],
        "nearest: class of the variation donor": of_variation[:, 0],
        "nearest of all is the class donor i": first == i,
        "nearest of all is the variation donor j": first == j,
    }
    return [
        subsets.line(measure, "generated", values, labels[i], space=space)
        for measure, values in found.items()
    ]


def _queries(labels: Int64Array) -> Int64Array:
    """Positions of the first real rows of each class."""
    own = [np.flatnonzero(labels == c)[:MOST_QUERIES] for c in np.unique(labels)]
    return np.concatenate(own)
