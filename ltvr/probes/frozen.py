"""A linear probe on frozen embeddings, with balanced labels: features without their classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltvr.probes.figures import draw_accuracies
from ltvr.probes.images import ProbeImages
from ltvr.probes.linear import FOLDS, STRENGTHS, LinearProbe, linear_probe
from ltvr.probes.lines import Section, Subsets
from ltvr.probes.rows import Rows

__all__ = ["frozen"]


def frozen(
    fitted: Rows,
    judged: Rows,
    images: ProbeImages,
    reported: dict[str, dict[str, Any]],
    subsets: Subsets,
    seed: int,
) -> Section:
    """Accuracy on the judged images of a linear probe, beside the run's own classifiers.

    Args:
        fitted: of ``images``.
        reported: metrics of the run's summary, by stage; empty where it is not finished.
        seed: of the folds.
    """
    probe = linear_probe(fitted.embeddings, fitted.labels, judged.embeddings, seed)
    right = judged.logits.argmax(1).numpy() == judged.labels
    lines = [
        subsets.line(
            "accuracy", "linear probe, balanced", probe.predicted == judged.labels, judged.labels
        ),
        subsets.line("accuracy", "its own classifier", right, judged.labels),
    ]
    for stage, metrics in reported.items():
        per_class = [np.nan if value is None else value for value in metrics["per_class"]]
        lines.append(subsets.line_of("accuracy", f"as reported after {stage}", per_class))
    formulas = [
        "Multinomial logistic regression on the embeddings that the features stage has left, "
        "standardised, every class of equal weight: C sum u_r (-log softmax(W x_r + b)_y) + "
        f"|W|^2 / 2. C is chosen of {', '.join(f'{c:g}' for c in STRENGTHS)} by balanced accuracy "
        f"over {FOLDS} folds of the probe's own training images, never on the judged ones.",
    ]
    details = {**probe.described, "images": images.described}
    return Section(
        "frozen",
        "Linear probe on frozen features",
        lines,
        formulas,
        _said(images, probe),
        details,
        {"frozen": draw_accuracies({"": lines})},
    )


def _said(images: ProbeImages, probe: LinearProbe) -> list[str]:
    number = np.bincount(images.split.labels, minlength=len(images.seen))
    least, most = int(number.min()), int(number.max())
    if (number == images.seen).all():
        said = (
            f"Linear probes train on {len(images.split)} training images of the run ({least} to "
            f"{most} of a class, weighed so that classes are alike): the network has seen them."
        )
    else:
        again = int((images.seen > 0).sum())
        said = (
            f"Linear probes train on {most} images of each class, {len(images.split)} in all; "
            f"{len(images.split) - int(images.seen.sum())} of them the network has never seen."
        )
        if again:
            said += (
                f" Of {again} class{'es' * (again > 1)} that had too few left out, "
                f"{int(images.seen.sum())} are training images."
            )
    end = "" if probe.converged else " L-BFGS had not converged."
    return [said, f"C = {probe.strength:g} on the embeddings.{end}"]
