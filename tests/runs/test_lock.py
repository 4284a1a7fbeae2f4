"""The lock of a run folder."""

import os
import signal
import time
from multiprocessing import get_context

import pytest

from ltvr.errors import UserError
from ltvr.runs.lock import Lock

FORK = get_context("fork")


def hold(folder, ready):
    lock = Lock(folder, "python -m ltvr.train")
    child = FORK.Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    ready.send((os.getpid(), child.pid))
    time.sleep(60)
    lock.release()


def test_a_lock_says_who_holds_it_and_dies_with_its_process(tmp_path):
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path, theirs))
    process.start()
    pid, worker = ours.recv()
    try:
        with pytest.raises(UserError, match=rf"is in use by process {pid} on .*ltvr.train\)"):
            Lock(tmp_path, "another")
        process.kill()
        process.join()
        Lock(tmp_path, "another").release()  # although what it forked is still alive
        os.kill(worker, 0)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_lock_that_is_let_go_can_be_taken(tmp_path):
    first = Lock(tmp_path, "one")
    with pytest.raises(UserError, match=r"\(one\)"):
        Lock(tmp_path, "two")
    first.release()
    Lock(tmp_path, "two").release()
