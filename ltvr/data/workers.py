"""Images read from disk by worker processes, batch after batch."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ltvr import freed_memory
from ltvr.errors import UserError
from ltvr.signals import STOPS

__all__ = ["Readers", "require_shared_memory"]

AHEAD = 2
"""Batches that each worker reads ahead."""
LOOK = 1.0
"""Seconds between two looks at what else is asked for, while a batch is waited for."""
PINNING = 5.0
"""Seconds to wait for the pinning thread; if a worker blocks it, it ends when that worker is
killed."""
LONGEST = 600.0
"""Seconds after which a batch is given up."""
SHARED = Path("/dev/shm")
"""Where batches pass from workers to this process, on Linux."""
NOT_HEARD = (*STOPS, signal.SIGUSR1)
"""What a terminal or a scheduler sends to all processes, and only this one answers."""


class Readers:
    """Processes that read batches of images, and go on to the next pass when one is done.

    Args:
        batches: gives the batch of each request; it may raise a ``UserError``.
        workers: processes that read, at most one a core; 0 reads in this one.
        pinned: into page-locked memory, for a copy to a GPU.
        look: called every second while a batch is waited for; it may raise.
    """

    def __init__(
        self,
        batches: Dataset[Tensor],
        workers: int,
        *,
        pinned: bool,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._batches, self._workers = batches, min(workers, cores())
        self._pinned, self._look = pinned, look
        self._idle: _Pool | None = None

    def read(self, requests: Iterable[Any]) -> Generator[Tensor, None, None]:
        """Read the batches of requests, in order, whatever the number of workers.

        Workers are started by the first pass, and kept by one that comes to its end; they end with
        one that does not, with this object, or with this process.

        Raises:
            UserError: an image that cannot be read, too little shared memory, a worker that died,
                or a batch that does not come.
        """
        if not self._workers:
            for request in requests:
                batch = self._batches[request]
                yield batch.pin_memory() if self._pinned else batch
            return
        # None while this pass uses them: another that begins meanwhile starts workers of its own.
        pool, self._idle = self._idle, None
        iterator = None if pool is None else pool.begin(requests)
        if pool is None or iterator is None:
            pool = _Pool(self._batches, self._workers, self._pinned)
            iterator = pool.begin(requests)
            assert iterator is not None
        try:
            while (found := _next(iterator, pool.processes, self._look)) is not None:
                # Workers hand a failed image back as text: torch would wrap it in a traceback.
                if isinstance(found, str):
                    raise UserError(found)
                yield found
        except BaseException:
            pool.end()
            raise
        self._idle, idle = pool, self._idle
        if idle is not None:
            idle.end()


class _Pool:
    """Workers, started with their first pass."""

    def __init__(self, batches: Dataset[Tensor], workers: int, pinned: bool) -> None:
        self._requests = _Requests()
        self._loader: DataLoader[Any] = DataLoader(
            _Caught(batches),
            batch_size=None,  # what is read for a request is a batch
            sampler=self._requests,
            num_workers=workers,
            collate_fn=_unchanged,
            # Of its own: a loader that took its seed from the global generator would shift what a
            # run draws from it when it is resumed.
            generator=torch.Generator(),
            pin_memory=pinned,
            prefetch_factor=AHEAD,
            timeout=LOOK,
            worker_init_fn=_begin,
            persistent_workers=True,
        )
        self.processes: list[BaseProcess] = []

    def begin(self, requests: Iterable[Any]) -> Iterator[Any] | None:
        """Begin a pass; None where the workers of the last do not take it on, and are ended."""
        self._requests.of_this_pass = requests
        if not self.processes:
            iterator, self.processes = _start(self._loader)
            # They hear no SIGTERM, which multiprocessing would wait for at the end of this process.
            self.end = util.Finalize(self, _end, (iterator, self.processes), exitpriority=1)
            return iterator
        try:
            return iter(self._loader)
        except (RuntimeError, OSError, EOFError):  # one has died, or is held up
            self.end()
            return None


class _Requests(Iterable[Any]):
    """What a loader is asked for: another thing in each pass."""

    of_this_pass: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.of_this_pass)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_shared_memory(workers: int, batch: int, number: int, readers: int = 1) -> None:
    """Refuse workers whose batches do not fit the shared memory: they would wait for ever.

    Args:
        workers: processes that read, before the limit of one a core.
        batch: bytes of the largest batch.
        number: of batches.
        readers: ranks that have as many workers each, and share the memory.

    Raises:
        UserError: says how much there is, and how much is needed.
    """
    workers = min(workers, cores())
    if not workers or not number or not SHARED.is_dir():
        return
    needed, disk = readers * min(AHEAD * workers + 1, number) * batch, os.statvfs(SHARED)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        fit = max(0, (free // (readers * batch) - 1) // AHEAD)
        of_each = f" of each of {readers} ranks" if readers > 1 else ""
        raise UserError(
            f"{workers} workers{of_each} need {needed / 1e6:.0f} MB of shared memory for batches "
            f"of {batch / 1e6:.0f} MB, and {SHARED} has {free / 1e6:.0f} MB free; say --workers "
            f"{fit}, or give the container more (docker run --shm-size {needed // 1_000_000 + 64}m)"
        )


def _start(loader: DataLoader[Any]) -> tuple[Iterator[Any], list[BaseProcess]]:
    """Start the workers, deaf to what is sent to all processes; they end with this one."""
    before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # to start it later would let the signals through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_HEARD)  # inherited from the first moment on
    try:
        iterator = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        # When a worker dies, torch's handler would raise in the middle of whatever runs then.
        signal.signal(signal.SIGCHLD, handler)
    return iterator, [p for p in multiprocessing.active_children() if p not in before]


def _end(iterator: Any, processes: list[BaseProcess]) -> None:
    """End what reads: the thread that pins, as torch does it, and the workers, which may be busy.

    In this order: the thread fetches the memory of a batch from the worker that has read it, and
    would print a traceback where that has gone.
    """
    pinning = getattr(iterator, "_pin_memory_thread", None)
    if pinning is not None and pinning.is_alive():
        iterator._pin_memory_thread_done_event.set()
        with suppress(RuntimeError):  # Python, as it exits, may start no thread to put
            iterator._worker_result_queue.put((None, None))  # or it would wait for a batch first
            pinning.join(PINNING)
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
    # A worker that is not forked takes seconds to get here. Its parent may have died by then, and
    # torch, which ends a worker whose parent changes, sees only changes from here on.
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)
    # Again: a worker of a fork server inherits its mask, and that may be older than ours.
    signal.pthread_sigmask(signal.SIG_BLOCK, NOT_HEARD)
    # The garbage collector writes to every object that it looks at. Of those that are the parent's
    # it would so make a copy in this process.
    gc.freeze()
    freed_memory.give_back()


class _Caught(Dataset[Any]):
    """Batches, in which the text of a ``UserError`` stands for one with a failed image."""

    def __init__(self, batches: Dataset[Tensor]) -> None:
        self.batches = batches

    def __getitem__(self, request: Any) -> Tensor | str:
        try:
            return self.batches[request]
        except UserError as error:
            return str(error)


def _unchanged(batch: Any) -> Any:
    return batch
