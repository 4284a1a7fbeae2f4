"""What ranks are to each other, where they are no processes yet."""

import threading
import time

import torch.distributed as dist

from ltvr.distributed import meeting


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
