"""How far generated rows are from the real rows of their class, and from those of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ltvr.data.longtail import Int64Array
from ltvr.probes.figures import Margins, draw_margins
from ltvr.probes.lines import Line, Section, Subsets
from ltvr.probes.neighbours import METRICS
from ltvr.probes.rows import ALONE, Generated, Rows

__all__ = ["ToMeans", "distances", "to_means"]


class ToMeans(NamedTuple):
    """Euclidean distances of rows from the means of classes, [R] each."""

    own: npt.NDArray[np.float64]
    """From the mean of the class's real rows without the one that is left out; nan without any."""
    other: npt.NDArray[np.float64]
    """From the nearest mean of another class; nan where there is none."""

    @property
    def margin(self) -> npt.NDArray[np.float64]:
        """(other - own) / (other + own): -1 to 1, below 0 where another class's mean is nearer."""
        total = self.other + self.own
        return np.where(total == 0, 0.0, (self.other - self.own) / np.where(total == 0, 1, total))


def to_means(
    points: Tensor, labels: Int64Array, real: Tensor, real_labels: Int64Array, out: Int64Array
) -> ToMeans:
    """The distances of rows from their own class's mean, and from the nearest of the others.

    Args:
        points: [R, F], of class ``labels`` [R].
        real: [n, F], of class ``real_labels`` [n].
        out: [R] the real row that is left out of the mean of the row's own class.
    """
    points, real = points.double(), real.double()
    classes = np.unique(real_labels)
    number = {int(c): int((real_labels == c).sum()) for c in classes}
    means = torch.stack([real[torch.from_numpy(real_labels == c)].mean(0) for c in classes])
    at = np.searchsorted(classes, labels)
    n = torch.tensor([number[int(c)] for c in labels], dtype=torch.float64)[:, None]
    rest = (n * means[at] - real[torch.from_numpy(out)]) / (n - 1).clamp_min(1)
    own = (points - rest).norm(dim=1)
    own[n[:, 0] < 2] = torch.nan
    others = torch.cdist(points, means, compute_mode="donot_use_mm_for_euclid_dist")
    others[torch.arange(len(points)), torch.from_numpy(at)] = torch.inf
    other = others.min(1).values
    other[other.isinf()] = torch.nan
    return ToMeans(own.numpy(), other.numpy())


def distances(real: Rows, generated: Generated | None, subsets: Subsets) -> Section:
    """Distances and norms of generated and real rows, in both spaces."""
    lines: list[Line] = []
    margins: dict[str, dict[str, Margins]] = {}
    for space in METRICS:
        points = real.space(space)
        of_real = to_means(points, real.labels, points, real.labels, np.arange(len(points)))
        margins[space] = {"real": Margins(of_real.margin, real.labels)}
        if generated is None:
            lines += _margins("real", of_real, real.labels, subsets, space)
            continue
        rows, labels = generated.rows.space(space), generated.rows.labels
        of_rows = to_means(rows, labels, points, real.labels, generated.class_donor)
        margins[space]["generated"] = Margins(of_rows.margin, labels)
        of_alone = to_means(
            generated.alone.space(space), labels, points, real.labels, generated.class_donor
        )
        for kind, own, found in (
            ("generated / real", rows, of_rows),
            (f"{ALONE} / real", generated.alone.space(space), of_alone),
        ):
            pairs = {
                "distance from the mean of its class": (found.own, of_real.own),
                "norm": (own.norm(dim=1).numpy(), points.norm(dim=1).numpy()),
            }
            for name, (ours, theirs) in pairs.items():
                ratio = subsets.means_of(ours, labels) / subsets.means_of(theirs, real.labels)
                lines.append(subsets.line_of(name, kind, ratio.tolist(), space=space, unit=""))
        lines += _margins("generated", of_rows, labels, subsets, space)
        lines += _margins("real", of_real, real.labels, subsets, space)
    formulas = [
        "Euclidean distances from m_c, the mean of the real training rows of class c. Of its own "
        "class's mean a real row is left out (leave one out), and of that of a generated row its "
        "class donor i. Generated / real: the mean over the generated rows of a class over the "
        f"mean over its real rows. {ALONE}: the generated rows with j = i, where nothing is mixed.",
        "Margin: (d_other - d_own) / (d_other + d_own), d_other the distance from the nearest mean "
        "of another class; below 0 a row is nearer to another class.",
    ]
    figures = {"distances": draw_margins(margins)}
    return Section("distances", "Distances", lines, formulas, figures=figures)


def _margins(
    of: str, found: ToMeans, labels: Int64Array, subsets: Subsets, space: str
) -> list[Line]:
    margin = found.margin
    nearer = np.where(np.isnan(margin), np.nan, margin < 0)
    return [
        subsets.line("margin", of, margin, labels, space=space, unit=""),
        subsets.line("nearer to the mean of another class", of, nearer, labels, space=space),
    ]
