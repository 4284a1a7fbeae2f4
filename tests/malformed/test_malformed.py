"""A seeded sample of malformed input, through the real commands; ``--malformed 200`` for more."""

import os
import signal
import subprocess
import sys
import types
from contextlib import contextmanager

import pytest

import malformed.files
import malformed.values  # noqa: F401 (these declare the kinds)
from ltvr import errors
from malformed.cases import Place, drawn

SECONDS = 20


def pytest_generate_tests(metafunc):
    number, seed = (metafunc.config.getoption(n) for n in ("--malformed", "--malformed-seed"))
    if "index" not in metafunc.fixturenames:
        return
    cases = []
    every = 25 if metafunc.function is test_in_a_process_of_its_own else 1
    for index in range(0, number, every):
        kind, _ = drawn(seed, index)
        cases.append(pytest.param(seed, index, id=f"{seed}-{index}-{kind.name}"))
    metafunc.parametrize(("seed", "index"), cases)


@pytest.fixture
def attempt(seed, index, finished, tmp_path, monkeypatch):
    """The case, made in an empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    kind, random = drawn(seed, index)
    return kind.make(random, Place(tmp_path, finished))


@contextmanager
def time_limit():
    """Fail what takes longer; the failure is no Exception, so that no command takes it for one."""

    def late(*_):
        pytest.fail(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_one_line(code, err):
    assert "Traceback" not in err and "report it" not in err, err
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert code == 2 and err.rstrip("\n").isprintable() and len(err) < 2000, err


def test_is_one_line(attempt, monkeypatch, capsys):
    main = attempt.main
    if isinstance(main, types.ModuleType):
        monkeypatch.setattr(sys, "argv", [main.__name__, *map(str, attempt.arguments)])
        main = main.main

    def called():
        main()  # what a call from Python gives is no status

    with time_limit(), pytest.raises(SystemExit) as stopped:
        errors.run(called)
    assert_one_line(stopped.value.code, capsys.readouterr().err)


def test_in_a_process_of_its_own(attempt):
    if not isinstance(attempt.main, types.ModuleType):
        pytest.skip("a call from Python")
    arguments = [str(a) for a in attempt.arguments]
    if any("\0" in a for a in arguments):
        pytest.skip("no shell passes a null character")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", attempt.main.__name__, *map(os.fsencode, arguments)],
        env=environment,
        capture_output=True,
        timeout=3 * SECONDS,  # most of it imports
        stdin=subprocess.DEVNULL,
    )
    assert_one_line(done.returncode, done.stderr.decode("ascii"))
