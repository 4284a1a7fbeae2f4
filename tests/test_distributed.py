"""What ranks are to each other, where they are no processes yet."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from ranked import on_ranks

from ltvr import distributed
from ltvr.distributed import meeting

IMPORTED = time.monotonic()


def began_before_this_attempt(folder, tells):
    now = time.monotonic()
    assert distributed.began() >= now
    os.environ["TORCHELASTIC_RUN_ID"] = "none"
    assert (distributed.began() < IMPORTED) == tells
    assert IMPORTED - distributed.began() < 24 * 3600


@pytest.mark.forks
def test_a_time_limit_counts_from_the_start_of_torchrun(tmp_path):
    """Not from that of a rank that it has started again."""
    on_ranks(1, tmp_path, began_before_this_attempt, Path("/proc").is_dir())


def met(port, delays):
    """The names that ranks find which come after these seconds, each by a connection of its own."""
    names = [None] * len(delays)

    def come(own):
        time.sleep(delays[own])
        names[own] = meeting(dist.TCPStore("127.0.0.1", port), own, len(delays))

    ranks = [threading.Thread(target=come, args=[own]) for own in range(len(delays))]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(30)
    return names


def test_ranks_that_are_started_again_do_not_meet_those_that_have_ended():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = [
        met(store.port, delays) for delays in ((0, 0, 0), (0, 0.3, 0), (0.3, 0, 0), (0, 0.2, 0.4))
    ]
    assert all(len(set(names)) == 1 for names in found)
    assert len({names[0] for names in found}) == 4 and None not in found[0]
