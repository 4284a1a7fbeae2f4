"""Can generated rows be told from real ones?"""

from __future__ import annotations

import numpy as np
import torch

from ltvr.probes.linear import linear_probe
from ltvr.probes.lines import Section, Subsets
from ltvr.probes.neighbours import METRICS
from ltvr.probes.rows import Generated, Rows

__all__ = ["apart"]


def apart(real: Rows, generated: Generated, subsets: Subsets, seed: int) -> Section:
    """How often a linear probe tells a generated row from the real row of its class donor.

    Args:
        real: of the training images.
        seed: of the folds.
    """
    donor = generated.class_donor
    fitted, asked = donor % 2 == 0, donor % 2 == 1
    lines = []
    for space in METRICS if min(fitted.sum(), asked.sum()) > 1 else ():
        made, own = generated.rows.space(space), real.space(space)[torch.from_numpy(donor)]
        rows, others = (
            torch.cat([made[half], own[half]]) for half in map(torch.from_numpy, (fitted, asked))
        )
        kinds, of_others = (np.repeat([1, 0], half.sum()) for half in (fitted, asked))
        probe = linear_probe(rows, kinds, others, seed)
        labels = np.tile(generated.rows.labels[asked], 2)
        right = probe.predicted == of_others
        lines.append(subsets.line("told apart", "generated and real", right, labels, space=space))
    formulas = [
        "A linear probe (below) of two classes, generated rows and the real rows of their class "
        "donors i, as many of each; 50 % is chance. It is fitted to the rows of every other "
        "training image i, and asked about the rest.",
    ]
    return Section("apart", "Generated or real?", lines, formulas)
