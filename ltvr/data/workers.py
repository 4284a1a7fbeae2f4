"""Images read from disk by worker processes, batch after batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ltvr.errors import UserError
from ltvr.signals import STOPS

__all__ = ["read_in_workers", "require_shared_memory"]

AHEAD = 2
"""Batches that each worker reads ahead."""
LOOK = 1.0
"""Seconds between two looks at what else is asked for, while a batch is waited for."""
LONGEST = 600.0
"""Seconds after which a batch is given up."""
SHARED = Path("/dev/shm")
"""Where batches pass from workers to this process, on Linux."""
IGNORED = (*STOPS, signal.SIGUSR1)
"""What a terminal or a scheduler sends to all processes, and only this one answers."""


def read_in_workers(
    images: Dataset[Tensor],
    batches: Sequence[Sequence[Any]],
    workers: int,
    *,
    pinned: bool,
    look: Callable[[], None] = lambda: None,
) -> Generator[Tensor, None, None]:
    """Read batches of images, in order, whatever the number of workers.

    Args:
        images: gives one image for each index.
        batches: the indices of each batch.
        workers: processes that read, at most one a core; 0 reads in this one.
        pinned: into page-locked memory, for a copy to a GPU.
        look: called every second while a batch is waited for; it may raise.

    Raises:
        UserError: an image that cannot be read, too little shared memory, a worker that died, or
            a batch that does not come.
    """
    workers = min(workers, cores())
    if workers and batches:
        bytes_of_image = images[batches[0][0]].nbytes
        require_shared_memory(workers, max(map(len, batches)) * bytes_of_image, len(batches))
    loader: DataLoader[Any] = DataLoader(
        _Caught(images),
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable of batches will do
        num_workers=workers,
        collate_fn=_stack,
        # Of its own: a loader that took its seed from the global generator would shift what a run
        # draws from it when it is resumed.
        generator=torch.Generator(),
        pin_memory=pinned,
        prefetch_factor=AHEAD if workers else None,
        timeout=LOOK if workers else 0,
        worker_init_fn=_begin,
    )
    iterator, started = _start(loader)
    # They hear no SIGTERM, which multiprocessing would wait for at the end of this process.
    end = util.Finalize(None, _kill, (started,), exitpriority=1)
    try:
        while True:
            batch = _next(iterator, started, look)
            if batch is None:
                return
            # Workers hand a failed image back as text: torch would wrap it in a traceback.
            if isinstance(batch, str):
                raise UserError(batch)
            yield batch
    finally:
        end()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_shared_memory(workers: int, batch: int, number: int) -> None:
    """Refuse workers whose batches do not fit the shared memory: they would wait for ever.

    Args:
        workers: processes that read, before the limit of one a core.
        batch: bytes of the largest batch.
        number: of batches.

    Raises:
        UserError: says how much there is, and how much is needed.
    """
    workers = min(workers, cores())
    if not workers or not SHARED.is_dir():
        return
    needed, disk = min(AHEAD * workers + 1, number) * batch, os.statvfs(SHARED)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        fit = max(0, (free // batch - 1) // AHEAD)
        raise UserError(
            f"{workers} workers need {needed / 1e6:.0f} MB of shared memory for batches of "
            f"{batch / 1e6:.0f} MB, and {SHARED} has {free / 1e6:.0f} MB free; say --workers "
            f"{fit}, or give the container more (docker run --shm-size {needed // 1_000_000 + 64}m)"
        )


def _start(loader: DataLoader[Any]) -> tuple[Iterator[Any], list[BaseProcess]]:
    """Start the workers, deaf to what is sent to all processes; they end with this one."""
    if not loader.num_workers:
        return iter(loader), []
    before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # to start it later would let the signals through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # inherited from the first moment on
    try:
        iterator = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        # torch's would raise the death of a worker in the middle of whatever runs then.
        signal.signal(signal.SIGCHLD, handler)
    return iterator, [p for p in multiprocessing.active_children() if p not in before]


def _kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _next(
    iterator: Iterator[Any], started: list[BaseProcess], look: Callable[[], None]
) -> Tensor | str | None:
    """The next batch, or the text of an error; None after the last."""
    began = time.monotonic()
    while True:
        try:
            batch: Tensor | str | None = next(iterator, None)
            return batch
        except (RuntimeError, OSError, EOFError) as error:
            for process in started:
                process.join(0.1)
                if process.exitcode:
                    raise UserError(_death(process.exitcode)) from None
            if not str(error).startswith("DataLoader timed out"):
                raise
        look()
        if time.monotonic() - began > LONGEST:
            raise UserError(
                f"no batch of images has come for {LONGEST:.0f} seconds; look at the disk that "
                "they are on, or say --workers 0"
            )


def _death(status: int) -> str:
    """What is said of a worker that ended with this exit code."""
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    remedy = "memory may be short: say fewer --workers, or 0"
    if status == -signal.SIGBUS:
        remedy = "shared memory is short: say --workers 0, or docker run --shm-size 2g"
    return f"a process that reads images {how}; {remedy}"


def _begin(number: int) -> None:
    """What a worker does first: it ends if its parent has, and is deaf to signals."""
    # Started anew, a worker takes seconds until it gets here, and torch, which ends it with its
    # parent, takes for that whichever process it then finds to be it.
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)
    # Again, since its server may have started before this process blocked them.
    signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)


class _Caught(Dataset[Any]):
    """Batches of a data set, in which the text of a ``UserError`` stands for a failed image."""

    def __init__(self, images: Dataset[Tensor]) -> None:
        self.images = images

    def __getitems__(self, indices: Sequence[Any]) -> list[Tensor | str]:
        try:
            return [self.images[index] for index in indices]
        except UserError as error:
            return [str(error)]


def _stack(images: list[Tensor | str]) -> Tensor | str:
    failed = [image for image in images if isinstance(image, str)]
    if failed:
        return failed[0]
    batch = torch.stack([i for i in images if isinstance(i, Tensor)])
    if get_worker_info() is None:
        return batch
    try:  # as torch would later, in a thread whose errors nobody sees
        shared: Tensor = batch.share_memory_()
        return shared
    except (RuntimeError, OSError) as error:
        return (
            f"shared memory is used up ({str(error).splitlines()[0]}); say --workers 0, or give "
            "the container more (docker run --shm-size 2g)"
        )
