"""Rows of two kinds, told apart or not."""

import numpy as np
import pytest
import torch

from ltvr.probes.apart import apart
from ltvr.probes.lines import Subsets
from ltvr.probes.rows import Generated, Rows

NUMBER, SUBSETS = 200, Subsets(np.array([150, 50]), 100, 20)
LABELS = (np.arange(NUMBER) >= 150).astype(np.int64)


def rows(shift, seed, labels=LABELS):
    points = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed))
    return Rows(points + shift, points + shift, torch.zeros(len(labels), 2), labels)


def found(donor):
    labels = LABELS[donor]
    made, alone = rows(8.0, 1, labels), rows(0.0, 2, labels)
    generated = Generated(made, donor, (donor + 1) % NUMBER, 1, alone)
    section = apart(rows(0.0, 0), generated, SUBSETS, seed=0)
    return {(line.space, line.of): line.per_class for line in section.lines}


def test_what_is_shifted_is_told_and_what_is_alike_is_not():
    told = found(np.arange(NUMBER))
    for space in ("embedding", "head's input"):
        assert told[space, "generated and real"] == [100, 100]
        assert told[space, "generated and i alone"] == [100, 100]
        assert told[space, "i alone and real"] == pytest.approx([50, 50], abs=15)


def test_without_a_second_half_nothing_is_said():
    assert not found(np.arange(0, 20, 2))
