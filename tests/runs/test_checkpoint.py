"""Checkpoints: no damage goes unnoticed, and what is missing is named."""

import errno
import os
import random
import zipfile

import pytest
import torch

from ltvr.errors import CannotWrite, UserError
from ltvr.runs.checkpoint import TRAINING, Damaged, load_checkpoint, save_checkpoint

STATE = {"stage": "crt", "model": {f"w{i}": torch.arange(30.0) + i for i in range(9)}, "best": 1.5}


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    whole, noticed = path.read_bytes(), 0
    assert zipfile.ZipFile(path).testzip() is None
    assert torch.load(path, weights_only=True)["best"] == 1.5
    for bit in random.Random(0).sample(range(8 * len(whole)), 200):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        try:
            state = load_checkpoint(path)
        except Damaged:
            noticed += 1
        else:
            assert state.pop("format") == 3 and list(state) == list(STATE)
            assert all(torch.equal(state["model"][k], v) for k, v in STATE["model"].items())
    assert noticed > 180


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"totals": {"sums": None}}, "totals.sums is nothing, expected a tensor"),
        ({"epoch": "3"}, "epoch is text, expected a whole number"),
        ({"totals": {"sums": torch.zeros(6)}}, "lacks totals.synthetic_counts"),
        ({"average": {"a": 1}}, "average.a is a whole number, expected a tensor"),
        ({"model": {"w": [1.0]}}, "model.w is a list, expected a tensor"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(change, words, tmp_path):
    state = {
        **STATE, "loss": {}, "optimizer": None, "scaler": {}, "average": None, "epoch": 0,
        "step": 0, "results": {},
        "totals": {"sums": torch.zeros(6), "synthetic_counts": torch.zeros(2)},
    }  # fmt: skip
    path = tmp_path / "last.pt"
    save_checkpoint(path, state)
    load_checkpoint(path, TRAINING)
    save_checkpoint(path, {**state, **change})
    with pytest.raises(UserError, match=f"last.pt.*{words}"):
        load_checkpoint(path, TRAINING)
    for name in state:
        save_checkpoint(path, {k: v for k, v in state.items() if k != name})
        with pytest.raises(UserError, match=name):
            load_checkpoint(path, TRAINING)


def test_a_full_disk_shows_nothing_of_torch(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    before = path.read_bytes()

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if self.file.tell() > 500:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    opened = type(path).open
    monkeypatch.setattr(type(path), "open", lambda *a, **k: Full(opened(*a, **k)))
    with pytest.raises(CannotWrite, match=r"^cannot write .*last.pt \(No space left on device"):
        save_checkpoint(path, {**STATE, "best": 2.0})
    monkeypatch.undo()
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_the_machine_does_not_read_is_not_called_damaged(tmp_path, monkeypatch):
    """Or the checkpoint before it would take its place."""
    save_checkpoint(tmp_path / "last.pt", STATE)

    def fails(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(UserError, match="last.pt cannot be read .*Input/output.*; try again") as e:
        load_checkpoint(tmp_path / "last.pt")
    assert not isinstance(e.value, Damaged)


@pytest.mark.parametrize("length", [0, 100, 5_000, 20_000, 65_536, 100_000, 150_000])
def test_a_file_that_ends_too_early_is_damaged(tmp_path, length):
    """For some lengths PyTorch raises what a disk would."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, {**STATE, "model": {"weight": torch.rand(50_000)}})
    assert path.stat().st_size > 150_000
    os.truncate(path, length)
    with pytest.raises(Damaged, match="is not a checkpoint of ltvr"):
        load_checkpoint(path)
