"""The run folder: nothing of it is lost when a run is killed."""

import os
import shutil

import pytest

from ltvr.runs.folder import Run


def test_a_kill_while_records_are_dropped_loses_none(finished, tmp_path, monkeypatch):
    run = Run(shutil.copytree(finished, tmp_path / "run"))
    before = run.records()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.truncate("features", 2, ["features", "crt"])
    assert run.records() == before
    run.truncate("features", 2, ["features", "crt"])
    assert run.records() == before[:1]
