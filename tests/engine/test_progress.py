"""What a person sees of a run in training."""

import io
import sys

import torch

from ltvr import distributed
from ltvr.engine.progress import progress


def drawn(monkeypatch, rank):
    """What a rank draws of an epoch of two batches, on a terminal."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    batches = [(torch.zeros(2, 3, 1, 1), torch.zeros(2))] * 2
    assert list(progress(iter(batches), "features epoch 1/2", 0, 4)) == batches
    return terminal.getvalue()


def test_one_rank_draws_a_bar(monkeypatch):
    assert "features epoch 1/2" in drawn(monkeypatch, 0)
    assert drawn(monkeypatch, 1) == ""
