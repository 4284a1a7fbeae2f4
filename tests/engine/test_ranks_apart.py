"""Ranks that are not alike, that come one after another, or of which one has ended."""

import os
from types import SimpleNamespace

import pytest
from conftest import tiny_config
from ranked import on_ranks

import ltvr.train
from ltvr import distributed
from ltvr.data import workers
from ltvr.errors import UserError
from ltvr.runs.follower import Follower

pytestmark = pytest.mark.forks  # they start at once so; this process must train nothing itself

PLAIN = {"method": "baseline", "epochs": 1, "stages": ["features"]}


def of_torchrun(machines):
    """The environment of a rank, where as many are on each of the machines."""
    here = distributed.ranks() // machines
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": str(distributed.ranks()),
        "LOCAL_WORLD_SIZE": str(here),
        "LOCAL_RANK": str(distributed.rank() % here),
    }


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


# ---- on one machine ----


def sharing_memory(folder, images, free):
    of_torchrun(machines=1)
    workers.cores = lambda: 8
    workers.os.statvfs = lambda _: SimpleNamespace(f_bavail=free, f_frsize=1)
    config = tiny_config(
        **PLAIN, dataset="folder", root=str(images), image_size=72, imbalance=1.0, workers=4,
        batch_size=8, eval_batch_size=4,
    )  # fmt: skip
    with pytest.raises(UserError, match="4 workers of each of 2 ranks need 1 MB .* --workers 3"):
        ltvr.train.train(config, folder / "run")


def test_the_shared_memory_of_a_machine_is_that_of_all_its_ranks(tmp_path, write_images):
    names = [f"{k}/{i}.png" for k in "ab" for i in range(40)]
    for split in ("train", "test"):
        write_images(tmp_path / "images" / split, names, size=80)
    batch = 4 * 3 * 72**2
    on_ranks(2, tmp_path, sharing_memory, tmp_path / "images", 17 * batch)  # of 2 * 9


