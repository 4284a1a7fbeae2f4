"""What becomes of a run on two ranks of which one is killed, stopped, or fails.

``torchrun`` starts them as a user would. A run says where it is (``position``), so that it can be
killed at a moment of the run that was left alone, however fast the machine is just then.
"""

from __future__ import annotations

import os
import random
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ltvr import distributed
from ltvr.engine.state import StageState
from ltvr.runs.folder import Run

__all__ = ["Whole", "kills", "left_alone", "message_first", "nodes", "stopped"]

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).name
POSITIONS = "BENCH_POSITIONS"
"""Environment variable: the file to which the first rank writes where it is."""
OPTIONS: dict[str, Any] = {
    "preset": "digits", "method": "ltvr", "device": "cpu", "image-size": 8, "imbalance": 2,
    "batch-size": 64, "epochs": 4, "lay-back-start": 0.25, "warmup-epochs": 0, "crt-epochs": 2,
    "batchnorm-images": 0, "save-every": 0.05,
}  # fmt: skip
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""For agents of several nodes: without it torch 2.14 does not tell an agent that comes later where
the others meet, and all end a minute later."""
PATIENCE = 900
"""Seconds after which a job is said to hang."""
SLICE = 0.01


# ---- a run that says where it is ----


class Position(NamedTuple):
    """A line of the file: what has just happened, and when."""

    what: str
    """``step``, after one; ``from``, after a checkpoint was read."""
    stage: str
    steps: int
    """Done, of the stage."""
    when: float


def positions(file: Path) -> list[Position]:
    """What a run has written so far; a line that is not whole is left out."""
    text = file.read_text() if file.is_file() else ""
    lines = [line.split() for line in text.split("\n")[:-1]]
    return [Position(what, stage, int(n), float(when)) for what, stage, n, when in lines]


def train() -> None:
    """``python -m ltvr.train`` that writes its positions."""
    file = os.open(os.environ[POSITIONS], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def saying(what: str, function: Callable[..., None]) -> Callable[..., None]:
        def called(state: StageState, *arguments: Any) -> None:
            function(state, *arguments)
            if distributed.is_first():
                clock = state.clock
                line = f"{what} {clock.stage} {clock.steps_done} {time.time()}\n"
                os.write(file, line.encode())

        return called

    for what, name in (("step", "update"), ("from", "load_state_dict")):
        setattr(StageState, name, saying(what, getattr(StageState, name)))
    runpy.run_module("ltvr.train", run_name="__main__", alter_sys=True)


# ---- torchrun ----


class Job:
    """One agent of ``torchrun`` and what it starts; all that they print goes to a file.

    Args:
        folder: of the file, and of the positions.
        agent: arguments of ``torchrun``.
        command: those of ``ltvr.train``.
        name: of the file.
        environment: more of it.
    """

    def __init__(
        self,
        folder: Path,
        agent: list[str],
        command: list[str],
        name: str,
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.printed = folder / f"{name}.txt"
        self.positions = folder / "positions.txt"
        where = {"PYTHONPATH": str(ROOT), POSITIONS: str(self.positions), "OMP_NUM_THREADS": "1"}
        with self.printed.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *agent]
                + [str(ROOT / "bench" / HERE), *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | where | (environment or {}),
            )

    @property
    def workers(self) -> dict[int, int]:
        """The processes of the ranks, by rank."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    words = (stat.parent / "environ").read_bytes().split(b"\0")
                    rank = dict(word.split(b"=", 1) for word in words if word).get(b"RANK")
                    if rank is not None:
                        found[int(rank)] = int(stat.parent.name)
            except OSError:  # it has just ended
                continue
        return found

    def wait(self) -> int:
        """Wait for its end: the exit status."""
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Kill what is left of it."""
        if self.process.poll() is None:
            for process in (self.process.pid, *self.workers.values()):
                os.kill(process, signal.SIGKILL)
            self.process.wait()


@contextmanager
def jobs() -> Iterator[list[Job]]:
    """A list of jobs of which none outlives the block."""
    started: list[Job] = []
    try:
        yield started
    finally:
        for job in started:
            job.end()


def wait_until(condition: Callable[[], bool], job: Job) -> bool:
    """Wait for it; False if the job ends before.

    Raises:
        TimeoutError: neither comes.
    """
    began = time.monotonic()
    while not condition():
        if job.process.poll() is not None:
            return condition()
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"{job.printed} hangs")
        time.sleep(SLICE)
    return True


def single(restarts: int = 3) -> list[str]:
    """Arguments of ``torchrun`` for two ranks on one machine."""
    endpoint = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    return ["--nproc-per-node", "2", "--max-restarts", str(restarts), *endpoint]


def node(name: str, port: int) -> list[str]:
    """Arguments of each of two agents with one rank."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", name]
    return ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3", *meeting]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def command(folder: Path, changes: dict[str, Any] | None = None) -> list[str]:
    """Of the run in ``folder / "run"``."""
    options = {**OPTIONS, **(changes or {}), "out": folder, "name": "run"}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


# ---- moments ----


class Whole(NamedTuple):
    """The run that was left alone."""

    metrics: dict[str, Any]
    steps: list[Position]
    ended: float

    def moment(self, share: float) -> tuple[Position, float]:
        """The step before a share of the time from the first step to the end; seconds after it."""
        first = self.steps[0].when
        when = first + share * (self.ended - first)
        before = [each for each in self.steps if each.when <= when][-1]
        return before, when - before.when


def left_alone(folder: Path) -> Whole:
    """Train without a kill."""
    with jobs() as started:
        started.append(Job(folder, single(), command(folder), "agent"))
        status, ended = started[0].wait(), time.time()
        assert status == 0, started[0].printed.read_text()
    return Whole(metrics(folder), positions(started[0].positions), ended)


def metrics(folder: Path) -> dict[str, Any]:
    """Those that a finished run reports."""
    found: dict[str, Any] = Run.open(folder / "run").read_summary()["metrics"]
    return found


def reach(whole: Whole, share: float, job: Job) -> bool:
    """Wait until a run is at that moment of the one that was left alone; False if it has ended."""
    at, seconds = whole.moment(share)

    def there() -> bool:
        return any(p.what == "step" and p[1:3] == at[1:3] for p in positions(job.positions))

    return wait_until(there, job) and not wait_for_end(job, seconds)


def wait_for_end(job: Job, seconds: float) -> bool:
    """Whether it ends within that time."""
    try:
        job.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def steps_lost(file: Path) -> list[int]:
    """Steps that were made twice, for each time that a checkpoint was read.

    None where the run had just finished: what is started again then has nothing to do.
    """
    found, stages = positions(file), ["features", "crt"]
    a_stage = {name: max((p.steps for p in found if p.stage == name), default=0) for name in stages}
    before = {"features": 0, "crt": a_stage["features"]}
    at = [before[p.stage] + p.steps for p in found]
    return [at[k - 1] - at[k] for k in range(1, len(found)) if found[k].what == "from"]


# ---- what is done to runs ----


def kills(out: Path, whole: Whole, number: int, draw: random.Random) -> dict[str, Any]:
    """Kill one of two ranks of a fresh run, ``number`` times."""
    rows: list[dict[str, Any]] = []
    while len(rows) < number:
        folder, share, rank = out / f"kill-{len(rows)}", draw.random(), draw.randrange(2)
        with jobs() as started:
            job = Job(folder, single(), command(folder), "agent")
            started.append(job)
            reached = reach(whole, share, job)
            process = job.workers.get(rank)
            if not reached or process is None:
                print(f"{folder.name}: at an end before {share:.3f}; drawn again", flush=True)
            else:
                at = position(job)
                os.kill(process, signal.SIGKILL)
                rows.append(finish(folder, whole, share, started) | {"rank": rank, "at": at})
                print(f"killed: {rows[-1]}", flush=True)
        shutil.rmtree(folder)
    return counted(rows)


def position(job: Job) -> str:
    """The last step of a run so far."""
    last = positions(job.positions)[-1]
    return f"{last.stage} step {last.steps}"


def finish(folder: Path, whole: Whole, share: float, started: list[Job]) -> dict[str, Any]:
    """Wait for the end of a run to which something was done, and compare it."""
    began = time.monotonic()
    status = [job.wait() for job in started]
    finished = not any(status)
    if not finished:
        print("\n".join(job.printed.read_text() for job in started), flush=True)
    return {
        "share": round(share, 3),
        "status": status,
        "seconds to the end": round(time.monotonic() - began, 1),
        "metrics equal": finished and metrics(folder) == whole.metrics,
        "steps lost": steps_lost(started[0].positions),
    }


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many of the rows are as they should be."""
    lost = [max(row["steps lost"], default=0) for row in rows]
    return {
        "kills": len(rows),
        "finished": sum(not any(row["status"]) for row in rows),
        "metrics equal": sum(row["metrics equal"] for row in rows),
        "steps lost": {"least": min(lost), "mean": sum(lost) / len(lost), "most": max(lost)},
        "rows": rows,
    }


def nodes(out: Path, whole: Whole, number: int, draw: random.Random) -> dict[str, Any]:
    """Two agents of a rank each: kill ranks, an agent with its rank, and the one they meet at.

    Always before the last step: an agent whose rank has ended waits for the other agent alone, and
    one that is started again then waits for a meeting that does not come (torchrun's way).
    """
    rows: list[dict[str, Any]] = []
    for lost in [*["rank"] * number, "agent", "agent that they meet at"]:
        folder, share = out / f"node-{len(rows)}", 0.1 + 0.4 * draw.random()
        port = free_port()

        def start(name: str, folder: Path = folder, port: int = port) -> Job:
            return Job(folder, node(folder.name, port), command(folder), name, OWN_STORE)

        with jobs() as started:
            started.append(start("first"))
            wait_until(lambda port=port: listened(port), started[0])  # type: ignore[misc]
            started.append(start("second"))
            assert reach(whole, share, started[0])
            at = {"lost": lost, "at": position(started[0])}
            if lost == "rank":
                (process,) = started[draw.randrange(2)].workers.values()
                os.kill(process, signal.SIGKILL)
            elif lost == "agent":
                started.pop().end()
                started.append(start("second-again"))
            else:
                started.pop(0).end()
                began = time.monotonic()
                at["status of the other"] = str(started[0].wait())
                at["seconds until it ended"] = str(round(time.monotonic() - began, 1))
                started[:] = [start(f"again-{k}") for k in range(2)]
            rows.append(finish(folder, whole, share, started) | at)
        print(f"nodes: {rows[-1]}", flush=True)
        shutil.rmtree(folder)
    return {"environment": OWN_STORE, **counted(rows)}


def listened(port: int) -> bool:
    """Whether anybody listens on a port."""
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def stopped(out: Path, whole: Whole, draw: random.Random) -> dict[str, Any]:
    """SIGTERM to the agent within a stage; then ``--resume``."""
    folder, share = out / "stopped", 0.2 + 0.5 * draw.random()
    with jobs() as started:
        job = Job(folder, single(), command(folder), "agent")
        started.append(job)
        assert reach(whole, share, job)
        began = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        status = job.wait()
        seconds = time.monotonic() - began
        at = position(job)
        state = torch.load(folder / "run" / "last.pt")
        an_epoch = max(p.steps for p in whole.steps if p.stage == "crt") // OPTIONS["crt-epochs"]
        kept = state["epoch"] * an_epoch + state["step"]
        more = Job(folder, single(), ["--resume", str(folder / "run")], "resumed")
        started.append(more)
        again = more.wait()
    row = {
        "share": round(share, 3),
        "status of the agent": status,
        "seconds until all had ended": round(seconds, 1),
        "stopped at": at,
        "last.pt holds": f"{state['stage']} step {kept}",
        "status of --resume": again,
        "metrics equal": again == 0 and metrics(folder) == whole.metrics,
        "lines": said(job.printed),
    }
    print(f"stopped: {row}", flush=True)
    return row


def said(file: Path, number: int = 4) -> list[str]:
    """The last lines that are of ltvr's ranks."""
    lines = file.read_text().splitlines()
    return [line for line in lines if re.match(r"(\[rank \d+\] )?(error|stopped)", line)][-number:]


# ---- a rank that fails ----


def message_first(out: Path) -> dict[str, Any]:
    """Seconds from a rank's message to the end of the job; and whether it comes first."""
    wrong = ["--preset", "digits", "--batch-size", "63", "--device", "cpu", "--out", str(out)]
    with jobs() as started:
        started.append(Job(out / "wrong", single(0), wrong, "agent"))
        rows = {"a batch that two ranks cannot share": failed(started[0], "error: batch_size")}
        images(out / "images")
        folder = out / "unreadable"
        changes = {
            "dataset": "folder", "root": out / "images", "image-size": 72, "imbalance": 1,
            "batch-size": 16, "synthesis-group": 8, "epochs": 50, "augmentation": "imagenet",
            "stem": "imagenet",
        }  # fmt: skip
        job = Job(folder, single(0), command(folder, changes), "agent")
        started.append(job)
        wait_until(lambda: bool(positions(job.positions)), job)
        (out / "images" / "train" / "a" / "3.png").write_bytes(b"no image")
        rows["an image that becomes unreadable"] = failed(job, "3.png")
    print(f"failed: {rows}", flush=True)
    return rows


def failed(job: Job, words: str) -> dict[str, Any]:
    """Wait for a message of ltvr, then for the end."""
    assert wait_until(lambda: words in job.printed.read_text(), job), job.printed.read_text()
    began = time.monotonic()
    status = job.wait()
    text = job.printed.read_text()
    summary = text.find("torch.distributed.elastic.multiprocessing.errors.ChildFailedError")
    return {
        "status": status,
        "seconds from the message to the end": round(time.monotonic() - began, 1),
        "before torchrun's summary": 0 <= text.find(words) < summary,
        "lines": said(job.printed),
    }


def images(root: Path) -> None:
    """A folder of random pictures of two classes."""
    pixels = np.random.default_rng(0)
    for split, number in (("train", 32), ("test", 8)):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                picture = pixels.integers(0, 256, (80, 100, 3), np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{i}.png")


if __name__ == "__main__":
    train()
