"""Workers: as one process reads, and when they fail, a line in seconds."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from ltvr.data import workers
from ltvr.data.workers import Readers, require_shared_memory
from ltvr.errors import UserError


class Images(Dataset):
    """Batches of images that are their own index; some do to their reader what ``fate`` says."""

    def __init__(self, fate=None):
        self.fate, self.reader = fate or {}, os.getpid()

    def __getitem__(self, indices):
        if os.getpid() != self.reader:
            for index in indices:
                self.fate.get(index, lambda: None)()
        return torch.tensor(indices, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)


BATCHES = [[0, 1], [2, 3], [4, 5], [6]]


def numbers(read):
    return [batch[:, 0, 0, 0].tolist() for batch in read]


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 8)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_number_of_workers_changes_nothing(number):
    readers = Readers(Images(), number, pinned=False)
    assert numbers(readers.read(BATCHES)) == BATCHES
    assert numbers(readers.read(BATCHES[::-1])) == BATCHES[::-1] and numbers(readers.read([])) == []


def of_this_process(before=frozenset()):
    return {p.pid for p in multiprocessing.active_children()} - before


def test_workers_go_on_from_pass_to_pass_and_end_with_their_readers():
    others = of_this_process()
    readers = Readers(Images(), 2, pinned=False)
    list(readers.read(BATCHES))
    first = of_this_process(others)
    outer = readers.read(BATCHES)
    assert next(outer).tolist() == next(readers.read(BATCHES)).tolist()  # within the other pass
    assert numbers(outer) == BATCHES[1:] and len(first) == 2
    assert numbers(readers.read(BATCHES)) == BATCHES and of_this_process(others) == first
    next(readers.read(BATCHES))  # and not the rest
    assert numbers(readers.read(BATCHES)) == BATCHES and not of_this_process(others) & first
    del readers, outer
    deadline = time.monotonic() + 8
    while of_this_process(others):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_that_died_or_are_held_up_between_two_passes_are_replaced(monkeypatch):
    monkeypatch.setattr(workers, "LOOK", 0.2)
    others = of_this_process()
    readers = Readers(Images(), 1, pinned=False)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        assert numbers(readers.read(BATCHES)) == BATCHES
        (worker,) = of_this_process(others)
        os.kill(worker, number)
        assert numbers(readers.read(BATCHES)) == BATCHES and worker not in of_this_process(others)


class Shared(Images):
    """Batches in memory that the reader shares, as those of pictures are."""

    def __getitem__(self, indices):
        return super().__getitem__(indices).contiguous().share_memory_()


def test_a_pass_that_ends_early_leaves_no_traceback_of_the_thread_that_pins(monkeypatch):
    errors = []
    monkeypatch.setattr(threading, "excepthook", lambda error: errors.append(error.exc_value))
    monkeypatch.setattr(torch.utils.data._utils.pin_memory, "pin_memory", lambda batch, _: batch)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    before = set(threading.enumerate())
    for first in range(5):
        read = Readers(Shared(), 2, pinned=True).read([[n] * 500 for n in range(40)])
        assert next(read)[0, 0, 0, 0] == 0 and len([next(read) for _ in range(first)]) == first
        read.close()
    pinning = [t for t in set(threading.enumerate()) - before if "pin_memory" in t.name]
    assert not errors and not pinning


def test_a_worker_that_dies_is_a_line():
    images = Images({4: lambda: os.kill(os.getpid(), signal.SIGKILL)})
    began = time.monotonic()
    with pytest.raises(UserError, match="ended by SIGKILL; memory may be short: say fewer --work"):
        list(Readers(images, 2, pinned=False).read(BATCHES))
    assert time.monotonic() - began < 8


def test_what_is_sent_to_all_processes_does_not_reach_a_worker():
    sent = Images({2: lambda: [os.kill(os.getpid(), s) for s in workers.NOT_HEARD]})
    assert len(list(Readers(sent, 1, pinned=False).read(BATCHES))) == 4


def test_a_batch_that_does_not_come_can_be_stopped_and_is_given_up(monkeypatch):
    images = Images({0: lambda: time.sleep(60)})
    monkeypatch.setattr(workers, "LOOK", 0.1)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(Readers(images, 1, pinned=False, look=stop).read(BATCHES))
    monkeypatch.setattr(workers, "LONGEST", 0.3)
    with pytest.raises(UserError, match="no batch of images has come"):
        next(Readers(images, 1, pinned=False).read(BATCHES))


def test_shared_memory_that_is_too_small_is_said_before(monkeypatch):
    disk = SimpleNamespace(f_bavail=64_000, f_frsize=1000)
    monkeypatch.setattr(workers.os, "statvfs", lambda _: disk)
    with pytest.raises(
        UserError, match=r"4 workers need 677 MB .*64 MB free; say --workers 0.*741m"
    ):
        require_shared_memory(4, 500 * 3 * 224**2, 100)
    require_shared_memory(0, 500 * 3 * 224**2, 100)
    require_shared_memory(4, 30_000_000, 2)
    with pytest.raises(UserError, match="say --workers 2,"):
        require_shared_memory(4, 12_000_000, 100)
    with pytest.raises(UserError, match="4 workers of each of 2 ranks .* say --workers 2,"):
        require_shared_memory(4, 6_000_000, 100, 2)
    require_shared_memory(4, 3_000_000, 100, 2)


def test_a_worker_whose_parent_was_killed_while_it_started_ends(tmp_path):
    (tmp_path / "slow.py").write_text("""if True:
        import time
        def work():
            from ltvr.data import workers  # takes seconds
            workers._begin(0)
            time.sleep(60)
    """)
    script = """if True:
        import multiprocessing, os, sys
        sys.path.insert(0, sys.argv[1])
        from slow import work
        multiprocessing.get_context("spawn").Process(target=work).start()
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", script, str(tmp_path)]
    # Their stdout is read until the worker has ended as well.
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=40)
    assert ended.returncode == -signal.SIGKILL
