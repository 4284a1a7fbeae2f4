"""How well the label can be told from X_class alone, and from X_var alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ltvr.data.splits import Split
from ltvr.engine.trained import Trained
from ltvr.probes.figures import draw_accuracies
from ltvr.probes.linear import linear_probe
from ltvr.probes.lines import Section, Subsets
from ltvr.probes.rows import features_of, shape_of_features

__all__ = ["parts", "parts_of"]

MOST_WORK = 500_000_000
"""Products of a pass over the images of a linear probe on flat maps; of more it takes hours."""


@torch.no_grad()
def parts_of(trained: Trained, split: Split, flat: bool) -> dict[tuple[str, str], Tensor]:
    """X, X_class and X_var of images, by (part, form): ``pooled`` [n, D], ``flat`` [n, D H W].

    X alone without a decomposition.

    Args:
        flat: whether they are wanted flat, too.
    """
    decomposition = trained.network.decomposition
    found: dict[tuple[str, str], list[Tensor]] = {}
    for features, _ in features_of(trained, split):
        own = {"X": features}
        if decomposition is not None:
            with trained.autocast():
                own["X_class"], own["X_var"] = decomposition.decompose(features)
        for name, x in own.items():
            x = x.float().cpu()
            found.setdefault((name, "pooled"), []).append(x.mean((2, 3)))
            if flat:
                found.setdefault((name, "flat"), []).append(x.flatten(1))
    return {key: torch.cat(batches) for key, batches in found.items()}


def parts(trained: Trained, fitted: Split, judged: Split, subsets: Subsets, seed: int) -> Section:
    """Accuracy on the judged images of linear probes on X, X_class and X_var.

    Args:
        fitted: that the probes train on.
        seed: of the folds.
    """
    channels, height, width = shape_of_features(trained)
    work = len(fitted) * channels * height * width * len(subsets.counts)
    flat = height * width > 1 and work <= MOST_WORK
    rows, asked = parts_of(trained, fitted, flat), parts_of(trained, judged, flat)
    lines, details = [], {}
    for (name, form), own in rows.items():
        probe = linear_probe(own, fitted.labels, asked[name, form], seed)
        right = probe.predicted == judged.labels
        lines.append(subsets.line("linear probe: accuracy", name, right, judged.labels, space=form))
        details[f"{name}, {form}"] = probe.described
    chance = np.full(len(subsets.counts), 100 / len(subsets.counts))
    lines.append(subsets.line_of("by chance", "", chance.tolist()))
    formulas = [
        "Linear probes (below) on the features X behind the extractor and on their two parts, "
        "pooled over the positions, and flat where that is not too much work; accuracy on the "
        "judged images. If the split does what its names say, X_class tells the class and X_var "
        "does not.",
    ]
    figures = {"parts": draw_accuracies({"": lines})}
    title = "What X_class and X_var tell"
    return Section("parts", title, lines, formulas, details=details, figures=figures)
