"""Ranks that are not alike, that come one after another, or of which one has ended."""

import os
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_config
from ranked import on_ranks

import ltvr.training
from ltvr import distributed
from ltvr.data import workers
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine import training
from ltvr.engine.training import network_to_train
from ltvr.errors import UserError
from ltvr.networks.batchnorm import measure_real_statistics
from ltvr.runs.folder import Run
from ltvr.runs.follower import Follower
from ltvr.stages.build import stages_of

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
        ltvr.training.train(tiny_config(**PLAIN, **changes), folder / name)
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


def test_statistics_of_all_ranks_that_some_would_wait_for_are_refused(monkeypatch):
    """Generated rows of their own statistics, in a part of which nothing is generated."""
    monkeypatch.setattr(distributed, "ranks", lambda: 2)
    own = {"method": "ltvr", "sync_bn": True, "generated_batchnorm": "own"}
    gpu = torch.device("cuda")
    with pytest.raises(UserError, match="sync_bn: with --generated-batchnorm own .* --fixed-size"):
        network_to_train(tiny_config(**own), 10, gpu, pytest.fail)
    for changes in ({"fixed_size": True}, {"generated_batchnorm": "joint"}):
        training._check_synchronised(tiny_config(**own | changes), gpu)


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
        ltvr.training.train(config, folder / "run")


def test_the_shared_memory_of_a_machine_is_that_of_all_its_ranks(tmp_path, write_images):
    names = [f"{k}/{i}.png" for k in "ab" for i in range(40)]
    for split in ("train", "test"):
        write_images(tmp_path / "images" / split, names, size=80)
    batch = 4 * 3 * 72**2
    on_ranks(2, tmp_path, sharing_memory, tmp_path / "images", 17 * batch)  # of 2 * 9


# ---- one after another ----


def in_turn(folder):
    of_torchrun(machines=2)
    with distributed.first_ahead():
        time.sleep(0.2 if distributed.rank() in (0, 2) else 0)
        with (folder / "order").open("a") as file:
            file.write(str(distributed.rank()))


def test_the_first_of_each_machine_goes_ahead(tmp_path):
    on_ranks(4, tmp_path, in_turn)
    assert (tmp_path / "order").read_text() in ("0213", "0231")


def train_alone(folder):
    ltvr.training.train(tiny_config(**PLAIN), folder / "run")


def go_on(folder):
    kind = Run if distributed.is_first() else Follower
    load = kind.load

    def loaded(run):
        time.sleep(2 if distributed.is_first() else 0)
        found = load(run)
        with (folder / "order").open("a") as file:
            file.write(str(distributed.rank()))
        return found

    kind.load = loaded
    ltvr.training.resume(kind(folder / "run"))


def test_the_first_rank_puts_a_damaged_checkpoint_away_before_others_read_it(tmp_path):
    on_ranks(1, tmp_path, train_alone)
    run = Run(tmp_path / "run")
    run.last.write_bytes(run.last.read_bytes()[:-100])
    on_ranks(2, tmp_path, go_on)
    assert (tmp_path / "order").read_text() == "01" and run.peek()[0]["epoch"] == 1


# ---- one has ended ----


def without_the_first(folder):
    config = tiny_config(method="oltr", stages=["oltr"])
    data = load_data(config)
    network = network_to_train(config, len(data.classes), torch.device("cpu"), lambda _: None)
    stage = stages_of(config)["oltr"]
    stage.prepare(network, 0)
    batches = Batches(data.train, config, torch.device("cpu"))
    distributed.barrier()
    if distributed.is_first():
        os._exit(0)
    distributed.sum_over_ranks = lambda _: pytest.fail("NCCL would wait here")
    for work in (
        lambda: measure_real_statistics(network, batches, config),
        lambda: stage.begin(network, batches),
    ):
        with pytest.raises(RuntimeError) as error:
            work()
        assert distributed.lost(error.value)
    os._exit(0)


def test_a_rank_that_has_ended_is_noticed_before_the_others_wait_on_a_gpu(tmp_path):
    on_ranks(2, tmp_path, without_the_first)
