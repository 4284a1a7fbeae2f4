"""Jobs in processes of their own: some at a time, none twice, nothing lost by a stop."""

import fcntl
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pytest

from ltvr.errors import Stopped
from ltvr.jobs import children
from ltvr.jobs.children import Children, Found, do_all

FORK = get_context("fork")
WORK = """
import os, pathlib, signal, sys, time
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
def stop(*_):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
with (folder / "begun").open("a") as file:
    file.write(f"{os.environ['OMP_NUM_THREADS']} {os.getpid()}\\n")
def trace(what):
    with (folder.parent / "trace").open("a") as file:
        file.write(what)
trace("+")
time.sleep(seconds)
trace("-")
(folder / "done").touch()
"""


@dataclass(frozen=True)
class Work:
    """Sleeps, and leaves a file that says that it is done."""

    name: str
    out: Path
    seconds: float = 0.0
    needs: object = None
    script: str = field(default=WORK, repr=False)

    @property
    def folder(self):
        return self.out / self.name

    @property
    def log(self):
        return self.out / f"{self.name}.log"

    def look(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        return Found("done" if (self.folder / "done").is_file() else "missing")

    def command(self, found):
        return ["-c", self.script, str(self.folder), str(self.seconds)]

    def begun(self):
        """A line for each process that has begun it: its threads and its number."""
        path = self.folder / "begun"
        return path.read_text().splitlines() if path.is_file() else []


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(children, "PAUSE", 0.01)


def test_each_is_done_once_after_what_it_needs_and_no_more_at_a_time(tmp_path):
    first = Work("first", tmp_path, 0.5)
    others = [Work(str(n), tmp_path, 0.5, needs=first if n < 2 else None) for n in range(4)]
    ended = []

    def end(job, why):
        ended.append((job.name, why))

    assert do_all([first, *others], 2, end) == {}
    trace = (tmp_path / "trace").read_text()
    running = [trace[:at].count("+") - trace[:at].count("-") for at in range(len(trace) + 1)]
    assert max(running) == 2 and running[-1] == 0
    assert sorted(ended) == [("0", ""), ("1", ""), ("2", ""), ("3", ""), ("first", "")]
    assert [name for name, _ in ended].index("first") < [name for name, _ in ended].index("0")
    assert all(len(each.begun()) == 1 and each.begun()[0][0] == "1" for each in (first, *others))
    assert do_all([first, *others], 2, end) == {} and len(ended) == 5  # nothing is left to do


def test_a_failure_takes_what_needs_it_and_nothing_else(tmp_path):
    bad = Work("bad", tmp_path, script="import sys; sys.exit('error: no such method\\n')")
    after, other = Work("after", tmp_path, needs=bad), Work("other", tmp_path)
    failed = do_all([bad, after, other], 1, lambda job, why: None)
    assert list(failed) == [bad, after] and other.look().state == "done"
    assert failed[bad] == "it ended with status 1, see its log: error: no such method"
    assert failed[after] == "it needs bad, which is not there" and not after.begun()


def test_what_an_earlier_process_said_is_not_why(tmp_path):
    """As where a run was stopped, which its log says, and what went on with it was killed."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    scripts = ["raise SystemExit('first: stopped')", kill, f"print('third', flush=True);{kill}"]
    lines = [
        do_all([job], 1, lambda job, why: None)[job]
        for job in (Work("job", tmp_path, script=script) for script in scripts)
    ]
    assert lines == [
        "it ended with status 1, see its log: first: stopped",
        "it ended with status -9, see its log: it said nothing",
        "it ended with status -9, see its log: third",
    ]


def test_what_is_in_the_way_is_said_and_left_alone(tmp_path):
    class Blocked(Work):
        def look(self):
            return Found("in the way", "another run")

    blocked = Blocked("blocked", tmp_path)
    assert do_all([blocked], 1, lambda job, why: None) == {blocked: "another run"}
    assert not blocked.begun()


def test_a_signal_stops_what_is_running_and_a_second_time_goes_on(tmp_path):
    todo = [Work("a", tmp_path, 60), Work("b", tmp_path, 60), Work("c", tmp_path)]
    before = signal.getsignal(signal.SIGTERM)

    def stop():
        wait_for(lambda: todo[0].begun() and todo[1].begun())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped) as stopped:
        do_all(todo, 2, lambda job, why: None)
    thread.join()
    assert stopped.value.status == 143 and signal.getsignal(signal.SIGTERM) is before
    assert all((job.folder / "saved").is_file() for job in todo[:2]) and not todo[2].begun()
    again = [Work(job.name, tmp_path) for job in todo]
    assert do_all(again, 2, lambda job, why: None) == {}
    assert [len(job.begun()) for job in again] == [2, 2, 1]


def test_an_error_stops_what_is_running(tmp_path):
    def ended(job, why):
        raise BrokenPipeError

    long = Work("long", tmp_path, 60)
    with pytest.raises(BrokenPipeError):
        do_all([Work("short", tmp_path, 0.3), long], 2, ended)
    assert (long.folder / "saved").is_file() or not long.begun()


def test_what_a_killed_process_has_left_running_is_waited_for_and_not_begun_twice(tmp_path):
    job = Work("left", tmp_path, 60)
    parent = FORK.Process(target=do_all, args=([job], 1, lambda job, why: None))
    parent.start()
    wait_for(job.begun)
    child = int(job.begun()[0].split()[1])
    parent.kill()
    parent.join()
    if children._PRCTL is None:  # it trains on
        os.kill(child, signal.SIGTERM)
    do_all([Work("left", tmp_path)], 1, lambda job, why: None)
    assert (job.folder / "saved").is_file() and len(job.begun()) == 2


def test_two_at_once_share_the_work(tmp_path, capsys):
    names = [str(n) for n in range(4)]
    todo = [Work(name, tmp_path, 0.2) for name in names]
    other = FORK.Process(target=do_all, args=(todo, 1, lambda job, why: None))
    other.start()
    wait_for(todo[0].begun)
    assert do_all(todo, 2, lambda job, why: None) == {}
    other.join()
    assert other.exitcode == 0 and [len(job.begun()) for job in todo] == [1, 1, 1, 1]
    assert "0: another process is at it; waiting" in capsys.readouterr().out


def test_the_lock_of_a_log_ends_with_the_process_that_does_the_job(tmp_path):
    job = Work("job", tmp_path, 0.3)

    def locked():
        with job.log.open("ab") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    with Children() as running:
        running.start(job)
        wait_for(job.begun)
        assert locked() and running.start(Work("job", tmp_path)) is None
        running.running[job].wait()
        assert not locked()
