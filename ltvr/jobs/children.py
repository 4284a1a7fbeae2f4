"""Jobs done in processes of their own, some at a time, each by one process only.

Whoever does a job holds a lock on its log, and hands it on with the log to the process that does
it. So another command waits for that job, and one that begins after its predecessor was
killed waits for what that has left running.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Literal, NamedTuple, Protocol

from ltvr.errors import Stopped, shown
from ltvr.runs.files import cannot_write
from ltvr.runs.lock import NO_LOCKS
from ltvr.signals import stops

__all__ = ["THREADS", "Found", "Job", "State", "do_all", "named"]

THREADS = 1
"""Of each run, however many there are at a time: the number decides how sums are rounded."""
PAUSE = 0.2
"""Seconds between two looks at what is running."""
SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

State = Literal["done", "begun", "missing", "in the way"]
"""What there is of a job."""


class Found(NamedTuple):
    """What there is of a job, and of what is in the way, what it is."""

    state: State
    why: str = ""


class Job(Protocol):
    """Something that a process does, and that leaves files which say whether it is done."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def log(self) -> Path:
        """What its process says; the lock of the file says who does it."""

    @property
    def needs(self) -> Job | None:
        """What is to be done before."""

    def look(self) -> Found:
        """What there is of it."""

    def command(self, found: Found) -> list[str]:
        """The arguments of Python that do what is left."""

    def metrics(self, name: str) -> dict[str, Any]:
        """A result of it, once it is done."""


def named(job: Job) -> str:
    """A job by its folder and its name, for a reader."""
    return f"{job.log.parent.name}/{job.name}"


def do_all(
    todo: Sequence[Job], at_a_time: int, ended: Callable[[Job, str], None]
) -> dict[Job, str]:
    """Do what is not done of these jobs, and go on with what has begun; say when each begins.

    A failure takes no other job with it, but those that need it.

    Args:
        todo: in the order in which they begin, as far as they can; what one needs is among them.
        ended: called with each job that ends, and why if it has failed.

    Returns:
        Why jobs are not done.

    Raises:
        Stopped: that was asked for by a signal; what was training has saved.
    """
    waiting, done, failed = list(todo), set[Job](), dict[Job, str]()
    waited_for: set[Job] = set()

    def end(job: Job, why: str = "") -> None:
        waiting.remove(job)
        if why:
            failed[job] = why
        else:
            done.add(job)
        ended(job, why)

    for job in todo:
        if job.look().state == "done":
            waiting.remove(job)
            done.add(job)
    with Children() as children:
        while waiting:
            for job, why in children.ended():
                end(job, why)
            for job in [job for job in waiting if job not in children.running]:
                if job.needs in failed:
                    end(job, f"it needs {job.needs.name}, which is not there")
                elif job.needs is None or job.needs in done:
                    if len(children.running) == at_a_time:
                        break
                    found = children.start(job)
                    if found is None and job not in waited_for:
                        waited_for.add(job)
                        print(f"{named(job)}: another process is at it; waiting", flush=True)
                    elif found is not None and job not in children.running:
                        end(job, found.why)
                    elif found is not None:
                        how = "goes on" if found.state == "begun" else "begins"
                        print(f"{named(job)}: {how}, see {job.log}", flush=True)
            time.sleep(PAUSE if waiting else 0)
    return failed


class Children:
    """The processes that do jobs for this one; at the end of a ``with`` block they are to stop.

    They are in sessions of their own, so that Ctrl-C in a terminal reaches them once, from here:
    the first signal asks them to save and stop, a second one ends them at once.

    Raises:
        Stopped: at the end of the block, if a signal asked for it.
    """

    def __init__(self) -> None:
        self.running: dict[Job, subprocess.Popen[bytes]] = {}
        self._said_before: dict[Job, int] = {}
        """Bytes that processes before it have left in its log."""
        self._told: set[Job] = set()
        """Those that have been asked to stop."""
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def start(self, job: Job) -> Found | None:
        """Begin a job, or go on with it, if that is what there is to do.

        Returns:
            What there was of it, None if another process is at it.
        """
        with _opened(job.log) as log:
            if not _locked(log):
                return None
            found = job.look()
            if found.state in ("missing", "begun"):
                threads = {f"{kind}_NUM_THREADS": str(THREADS) for kind in ("OMP", "MKL")}
                self._said_before[job] = log.tell()
                self.running[job] = subprocess.Popen(
                    [sys.executable, *job.command(found)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **threads},
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
        return found

    def ended(self) -> list[tuple[Job, str]]:
        """The jobs that have ended since the last look, and why where they have failed.

        Raises:
            Stopped: a signal asked for it.
        """
        if self._asked is not None:
            raise Stopped("stopped; the same command goes on", 128 + self._asked)
        over = [job for job, process in self.running.items() if process.poll() is not None]
        statuses = {job: self.running.pop(job).returncode for job in over}
        return [(job, _why(job, statuses[job], self._said_before[job])) for job in over]

    def __enter__(self) -> Children:
        self._before = {n: signal.signal(n, self._on_signal) for n in stops()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ask(self.running.keys() - self._told)
        for process in self.running.values():
            process.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        self._ask(self.running.keys())

    def _ask(self, jobs: Iterable[Job]) -> None:
        for job in list(jobs):
            self._told.add(job)
            with suppress(ProcessLookupError):
                self.running[job].terminate()


def _why(job: Job, status: int, before: int) -> str:
    """Why a process has failed: its last line; empty if it has not, and has done the job.

    Args:
        before: bytes in the log that are not of this process.
    """
    if status == 0 and job.look().state == "done":
        return ""
    last = shown(last_line(job.log, before)) or "it said nothing"
    return f"it ended with status {status}, see its log: {last}"


def last_line(log: Path, after: int = 0) -> str:
    """The last line that is not blank; empty if there is none.

    Args:
        after: bytes at the beginning of the log that are passed over.
    """
    lines = log.read_bytes()[after:].decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


def _opened(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError as error:
        raise cannot_write(log, error) from None


def _locked(log: IO[bytes]) -> bool:
    """Lock a log until it is closed here and in every process that it was handed on to.

    Where the file system has no locks, training says so in the log.
    """
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


_PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """In the child: SIGTERM, and so a save, when the parent is killed. Elsewhere it trains on."""
    if _PRCTL is not None:
        _PRCTL(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
