"""Commands in forks of this process, which has imported torch: a start of Python takes seconds."""

import os
import signal
import sys
import time
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch

import ltvr.train
import ltvr.training
from ltvr import errors
from ltvr.jobs import children

FORK = get_context("fork")


def in_a_process(module, arguments):
    """Run a command in a process that was forked for it, and end the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    torch.set_num_threads(1)  # what other threads did is not there after a fork
    sys.argv = [module.__name__, *arguments]
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    with pytest.raises(SystemExit) as ended:
        errors.run(module.main)
    os._exit(ended.value.code)


def printing_to(path, module, arguments):
    """``in_a_process``, with what it prints in a file."""
    with path.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    in_a_process(module, arguments)


class Forked:
    """In place of ``subprocess.Popen``: a fork of this process, which has imported torch."""

    def __init__(self, words, stdin, stdout, stderr, env, start_new_session, preexec_fn):
        assert words[1:3] == ["-m", "ltvr.train"] and start_new_session
        assert env["OMP_NUM_THREADS"] == "1"
        self.returncode, self.pid = None, os.fork()
        if self.pid == 0:
            os.setsid()
            preexec_fn()
            for descriptor in (1, 2):
                os.dup2(stdout.fileno(), descriptor)
            in_a_process(ltvr.train, words[3:])

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self):
        while self.poll() is None:
            time.sleep(0.01)

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)


def fork_jobs(monkeypatch):
    """Have trainings that a command starts be forks, looked at often, that make no page."""
    monkeypatch.setattr(children, "subprocess", SimpleNamespace(Popen=Forked, DEVNULL=None))
    monkeypatch.setattr(children, "PAUSE", 0.01)
    monkeypatch.setattr(ltvr.training, "write_report", lambda run, data: run.report.write_text(""))
