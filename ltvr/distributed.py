"""Several processes that train as one, a rank each: what they are to each other.

``torchrun`` starts them and ``torch.distributed`` is what they talk by; without it there is one
rank, and every function here is what it would be among one. Nothing else in ltvr asks for a rank.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

__all__ = [
    "any_of_ranks",
    "barrier",
    "began",
    "first_ahead",
    "from_first",
    "is_first",
    "job",
    "launched",
    "launched_rank",
    "local_rank",
    "lost",
    "meeting",
    "rank",
    "ranks",
    "ranks_here",
    "ranks_joined",
    "share_of",
    "sum_over_ranks",
]

T = TypeVar("T")

LONGEST = datetime.timedelta(hours=6)
"""For which a rank waits for another: the first may be reading all images once, over a network.
That a rank has ended, the others are told at once."""

LOOK = 0.05
"""Seconds between two looks for the others, while they start."""


def launched() -> int:
    """How many processes ``torchrun`` has started; 1 where it has started none."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def launched_rank() -> int | None:
    """Which of these processes this is, from 0, before they are joined; None of one alone."""
    return int(os.environ["RANK"]) if launched() > 1 else None


def local_rank() -> int:
    """Which of the processes of this machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() > 1 else 0


def ranks_here() -> int:
    """How many ranks there are on this machine, which share its memory."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() > 1 else 1


@contextmanager
def ranks_joined() -> Iterator[None]:
    """Join the ranks that ``torchrun`` has started, if there are several, until the block ends.

    Sums of tensors on a CPU go by gloo, those on a GPU by NCCL.
    """
    if launched() == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, own, number = next(rendezvous("env://", timeout=LONGEST))
    store = PrefixStore(meeting(store, own, number), store)
    dist.init_process_group(backend, timeout=LONGEST, store=store, rank=own, world_size=number)
    # After an error it is left as it is: ranks that wait for this one are told by its end, and
    # to leave in order would be to wait for them.
    yield
    dist.destroy_process_group()


def meeting(store: Store, own: int, number: int) -> str:
    """A name for the ranks that are there now, and were not before ``torchrun`` started them again.

    The store outlives them: under the names of before it still has the addresses of ranks that have
    ended (pytorch/pytorch issue 135712), and how often a rank was started is not known to all. So
    each draws a key, the first rank proposes all keys that it finds, and again until every rank has
    found its own among them.

    Args:
        store: that all of them reach.
        own: which rank this is.
        number: W.

    Raises:
        DistStoreError: the others do not come.
    """
    key = uuid.uuid4().hex
    store.set(f"ltvr/{own}", key)
    began = time.monotonic()
    while time.monotonic() - began < LONGEST.total_seconds():
        if own == 0:
            keys = [store.get(f"ltvr/{each}").decode() for each in range(number)]
            store.set("ltvr/meeting", " ".join(keys))
        else:
            keys = store.get("ltvr/meeting").decode().split()
        if key in keys:
            name = "ltvr/" + hashlib.sha256(" ".join(keys).encode()).hexdigest()
            store.set(f"{name}/{own}", "")
            if store.check([f"{name}/{each}" for each in range(number)]):
                return name
        time.sleep(LOOK)
    raise dist.DistStoreError("not all ranks have come")


def ranks() -> int:
    """W, the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which rank this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the rank that prints and writes."""
    return rank() == 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Put the sum over all ranks in the place of ``tensor``, and return it."""
    if ranks() > 1:
        dist.all_reduce(tensor)
    return tensor


def any_of_ranks(values: list[int]) -> list[int]:
    """The largest of each value over all ranks."""
    if ranks() == 1:
        return values
    found = torch.tensor(values)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    largest: list[int] = found.tolist()
    return largest


def from_first(value: T) -> T:
    """What the first rank has for ``value``."""
    if ranks() == 1:
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values)
    given: T = values[0]
    return given


def barrier() -> None:
    """Wait for all ranks to get here: what the first has written before, the others may read."""
    any_of_ranks([0])


@contextmanager
def first_ahead() -> Iterator[None]:
    """Let the first rank through a block, then the first of each machine, and then the others.

    Caches that are filled there, of the user or of the machine, are so for those that follow.
    """
    before = 0 if is_first() else 1 if local_rank() == 0 else 2
    for _ in range(before):
        barrier()
    yield
    for _ in range(2 - before):
        barrier()


def share_of(number: int, unit: int) -> range:
    """Which of ``number`` things in units of ``unit`` this rank takes, all in a row.

    Units stay whole, so that what is computed of one is the same however many ranks there are; the
    last may be smaller. Ranks take as many, or one more.
    """
    units = -(-number // unit)
    first, end = (units * (rank() + k) // ranks() * unit for k in (0, 1))
    return range(min(first, number), min(end, number))


def lost(error: BaseException) -> bool:
    """Whether an error says that another rank has ended, or cannot be reached."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def job() -> str | None:
    """The job that ``torchrun`` has started this process for, the same after it starts it again.

    That is its ``--rdzv-id``; without one, the agent that it is on this machine. None without it.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    name = os.environ["TORCHELASTIC_RUN_ID"]
    if name != "none":
        return name
    ticks = _ticks_of_agent()
    return f"agent {os.getppid()} of {socket.gethostname()} {ticks or ''}".strip()


def began() -> float:
    """When the command began, by ``time.monotonic``: ``torchrun``, whichever attempt of it this is.

    Now without it, or where there is no ``/proc`` to tell.
    """
    ticks = _ticks_of_agent() if "TORCHELASTIC_RUN_ID" in os.environ else None
    if ticks is None:
        return time.monotonic()
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - since


def _ticks_of_agent() -> int | None:
    """When ``torchrun`` began on this machine, in ticks since its start; None without ``/proc``."""
    stat = Path(f"/proc/{os.getppid()}/stat")
    return int(stat.read_text().rpartition(")")[2].split()[19]) if stat.is_file() else None
