"""What the head says of generated rows, beside real training rows and judged ones."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ltvr.probes.lines import Section, Subsets
from ltvr.probes.rows import ALONE, Generated, Rows

__all__ = ["head"]


def head(train: Rows, judged: Rows, generated: Generated | None, subsets: Subsets) -> Section:
    """Cross-entropy and accuracy of the head on rows of three kinds.

    Args:
        train, judged: of the images as evaluation sees them.
    """
    kinds = {"real, training": train, "real, judged": judged}
    if generated is not None:
        kinds = {"generated": generated.rows, ALONE: generated.alone, **kinds}
    lines = []
    for kind, rows in kinds.items():
        labels = torch.from_numpy(rows.labels)
        loss = F.cross_entropy(rows.logits, labels, reduction="none").numpy()
        lines.append(subsets.line("cross-entropy", kind, loss, rows.labels, unit=""))
        right = rows.logits.argmax(1).numpy() == rows.labels
        lines.append(subsets.line("accuracy", kind, right, rows.labels))
    if generated is not None:
        other = train.labels[generated.variation_donor]
        taken = generated.rows.logits.argmax(1).numpy() == other
        two = np.where(other == generated.rows.labels, np.nan, taken)
        lines.append(
            subsets.line("taken for the class of j", "generated", two, generated.rows.labels)
        )
    formulas = [
        "Cross-entropy -log softmax(z)_y, and whether the largest logit is the label's, of the "
        "head that the features stage ended with, in eval mode. Training images without "
        "augmentation. Taken for the class of j: of rows whose donors have two labels, the share "
        "whose largest logit is that of the variation donor's. "
        f"{ALONE}: the generated rows with j = i, where nothing is mixed.",
    ]
    return Section("head", "What the head says of them", lines, formulas)
