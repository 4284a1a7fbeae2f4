"""Ranks that are not alike, that come one after another, or of which one has ended."""

import os

import pytest
from conftest import tiny_config
from ranked import on_ranks

import ltvr.train
from ltvr import distributed
from ltvr.errors import UserError
from ltvr.runs.follower import Follower

pytestmark = pytest.mark.forks  # they start at once so; this process must train nothing itself

PLAIN = {"method": "baseline", "epochs": 1, "stages": ["features"]}


# ---- not alike ----


def otherwise(folder, name, here):
    """The second rank is told another value; it ends, and the first with it."""
    changes = {} if distributed.is_first() else {name: here}
    with pytest.raises((UserError, RuntimeError)) as error:
        ltvr.train.train(tiny_config(**PLAIN, **changes), folder / name)
    if distributed.is_first():
        assert distributed.lost(error.value)
    else:
        (folder / f"{name}.txt").write_text(str(error.value))
    os._exit(0)


@pytest.mark.parametrize(
    ("name", "here", "words"),
    [
        ("lr", 0.1, "lr = 0.1 on this rank and 0.2 on the first; give every machine the same com"),
        ("evaluate_every", 2, "evaluate_every = 2 on this rank and 1 on the first"),
    ],
)
def test_options_of_a_rank_that_differ_are_refused(name, here, words, tmp_path):
    on_ranks(2, tmp_path, otherwise, name, here)
    assert words in (tmp_path / f"{name}.txt").read_text()


def test_a_run_folder_that_a_rank_does_not_see_is_refused(tmp_path):
    with pytest.raises(UserError, match="has the run folder .*absent, and this one has not; put"):
        Follower(tmp_path / "absent")
