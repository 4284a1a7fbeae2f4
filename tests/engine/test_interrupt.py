"""Requests to save and to stop."""

import os
import signal
import subprocess
import sys

import pytest

from ltvr.config.times import minutes, seconds
from ltvr.engine import interrupt
from ltvr.engine.interrupt import TIME_IS_UP, Requests
from ltvr.errors import Stopped


def attended(requests, times=1):
    """How often it saves when it is asked ``times`` times."""
    saved = []
    for _ in range(times):
        requests.attend(lambda: saved.append(1))
    return len(saved)


def test_saves_on_sigusr1_and_when_it_is_time():
    with Requests() as requests:
        assert attended(requests) == 0
        signal.raise_signal(signal.SIGUSR1)
        assert attended(requests, 2) == 1
    with Requests(save_every=1e-9) as requests:
        assert attended(requests, 3) == 3


@pytest.mark.parametrize(
    ("how", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (None, TIME_IS_UP)],
)
def test_stops_after_a_save(how, status):
    saved, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped) as stopped, Requests(time_limit=None if how else 1e-9) as requests:
        if how:
            signal.raise_signal(how)
        requests.attend(lambda: saved.append(1))
    assert stopped.value.status == status and saved == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stop_that_nobody_attended_to_is_not_lost():
    with pytest.raises(Stopped), Requests():
        signal.raise_signal(signal.SIGTERM)


def test_a_second_stop_ends_at_once_unless_it_is_the_first_once_more(monkeypatch):
    """``timeout`` and systemd send two, and so does torchrun after a scheduler has sent one."""
    with pytest.raises(Stopped), Requests() as requests:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        attended(requests)
    monkeypatch.setattr(interrupt, "ONE", 0)
    with pytest.raises(KeyboardInterrupt) as ended, Requests():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(ended.value, Stopped)


def test_times():
    shown = ("3:50:00", "90m", "5400", "1-00:00:01", "2:30", "1.5h")
    assert [seconds(t) for t in shown] == [13800, 5400, 5400, 86401, 150, 5400]
    assert (minutes("0.5"), minutes("0")) == (30, None)
    for wrong in ("", "-3", "0", "1:2:3:4", "inf", "nan", "1 h", "9" * 400 + ":00", "9" * 9000):
        with pytest.raises(Exception, match="expected a time") as error:
            seconds(wrong)
        assert len(str(error.value)) < 300


def test_a_closed_terminal_is_not_heard_where_it_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with Requests() as requests:
            signal.raise_signal(signal.SIGHUP)
            assert attended(requests) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "> /dev/full 2> /dev/full"])
def test_a_command_without_stdout_or_stderr_ends_as_it_should(closed, tmp_path):
    script = """if True:
        import signal, sys
        from ltvr.signals import EndAtOnce
        EndAtOnce(lambda: "stopped").install()
        if sys.stderr is None:
            kept = open(sys.argv[1], "w")  # gets the number of stderr
        print("something")
        signal.raise_signal(signal.SIGHUP)
    """
    path = tmp_path / "kept"
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", script, str(path)]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    assert subprocess.run(command, env=buffered, timeout=60).returncode == 129
    assert not path.exists() or path.read_text() == ""
