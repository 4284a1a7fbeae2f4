"""Can generated rows be told from real ones?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ltvr.data.longtail import Int64Array
from ltvr.probes.linear import linear_probe
from ltvr.probes.lines import Line, Section, Subsets
from ltvr.probes.neighbours import METRICS
from ltvr.probes.rows import ALONE, Generated, Rows

__all__ = ["apart"]


def apart(real: Rows, generated: Generated, subsets: Subsets, seed: int) -> Section:
    """How often linear probes tell apart generated rows, V of their class donors, and real rows.

    Args:
        real: of the training images.
        seed: of the folds.
    """
    donor, lines = generated.class_donor, list[Line]()
    for space in METRICS:
        own = real.space(space)[torch.from_numpy(donor)]
        made, alone = generated.rows.space(space), generated.alone.space(space)
        pairs = {
            "generated and real": (made, own),
            f"{ALONE} and real": (alone, own),
            f"generated and {ALONE}": (made, alone),
        }
        for of, (first, second) in pairs.items():
            right = _told(first, second, donor, seed)
            if right is None:
                continue
            labels = np.tile(generated.rows.labels[donor % 2 == 1], 2)
            lines.append(subsets.line("told apart", of, right, labels, space=space))
    formulas = [
        "A linear probe (below) of two classes of rows, as many of each: generated rows, the real "
        f"rows of their class donors i, and {ALONE} (j = i); 50 % is chance. It is fitted to the "
        "rows of every other training image i, and asked about the rest.",
    ]
    return Section("apart", "Generated or real?", lines, formulas)


def _told(first: Tensor, second: Tensor, donor: Int64Array, seed: int) -> np.ndarray | None:
    """Whether rows of odd donors, the first ones and then the second, are told for what they are.

    Returns:
        None where one half of the donors has fewer than two rows.
    """
    fitted, asked = (torch.from_numpy(donor % 2 == side) for side in (0, 1))
    if min(fitted.sum(), asked.sum()) < 2:
        return None
    rows, others = (torch.cat([first[half], second[half]]) for half in (fitted, asked))
    kinds, of_others = (np.repeat([1, 0], int(half.sum())) for half in (fitted, asked))
    told: np.ndarray = linear_probe(rows, kinds, others, seed).predicted == of_others
    return told
