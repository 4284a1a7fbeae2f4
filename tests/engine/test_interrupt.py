"""Requests to save and to stop."""

import signal

import pytest

from ltvr.engine.interrupt import TIME_IS_UP, Requests
from ltvr.errors import Stopped
from ltvr.train import duration, minutes


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
    ("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (None, TIME_IS_UP)]
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


def test_times():
    shown = ("3:50:00", "90m", "5400", "1-00:00:01", "2:30", "1.5h")
    assert [duration(t) for t in shown] == [13800, 5400, 5400, 86401, 150, 5400]
    assert (minutes("0.5"), minutes("0")) == (30, None)
    for wrong in ("", "-3", "0", "1:2:3:4", "inf", "nan", "1 h"):
        with pytest.raises(Exception, match="expected a time"):
            duration(wrong)
