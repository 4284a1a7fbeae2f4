"""How a command ends: one line that a terminal cannot be tricked by, whatever went wrong."""

import errno
import io
import os
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from ltvr.errors import UserError, brief, run, shown


@pytest.fixture
def ends(capsys):
    """Run a function as a command: exit status and stderr."""

    def check(main, *, ranks=False):
        with pytest.raises(SystemExit) as stopped:
            run(main, ranks=ranks)
        return stopped.value.code, capsys.readouterr().err

    return check


def raising(error):
    def main():
        raise error

    return main


def test_shown_leaves_nothing_for_a_terminal_to_obey():
    assert shown("a\nerror: b") == "a\\nerror: b"
    assert shown("\x1b[2J\r\x07\x85\u2028") == "\\x1b[2J\\r\\x07\\x85\\u2028"
    assert shown("gpj.\u202eexe \udcff") == "gpj.\\u202eexe \\udcff"
    assert shown("Zürich 猫 😀 $x$ C:\\new") == "Zürich 猫 😀 $x$ C:\\new"
    assert len(brief("x" * 10**6)) < 200 and "too many digits" in brief(10**5000)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("image a\nerror: b is missing"), "error: image a\\nerror: b is missing\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a/last.pt"), "a/last.pt: No space left"),
        (OSError(errno.EROFS, "Read-only file system", b"a\xff"), "a\\udcff: Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "x\ny"), "x\\ny: Permission denied; "),
        (OSError("cannot say"), "error: cannot say; "),
        (MemoryError(), "error: out of memory; lower --image-size"),
        (RuntimeError("[/src/gloo/tcp.cc:1] closed"), "error: another rank has ended, or cannot"),
        (RuntimeError("gloo: timed out\nat x"), "says why (gloo: timed out)\n"),
        (dist.DistStoreError("not all ranks have come"), "(not all ranks have come)\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, words, ends):
    code, err = ends(raising(error))
    assert code == 2 and words in err and err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**45),
        lambda: torch.empty(2**31, 2**31, 2**31),
        lambda: np.empty(2**50),
    ],
)
def test_no_memory_is_one_line_that_says_what_to_lower(allocate, ends):
    code, err = ends(allocate)
    assert (code, err.count("\n")) == (2, 1) and "out of memory (" in err and "--batch-size" in err


def test_a_fault_of_ltvr_keeps_its_traceback(ends):
    code, err = ends(lambda: {}["weights"])
    assert code == 1 and "Traceback" in err and "KeyError: 'weights'" in err
    assert err.endswith("please report it with the lines above\n")
    assert ends(raising(KeyboardInterrupt())) == (130, "stopped\n")
    assert ends(lambda: None) == (0, "") and ends(raising(SystemExit(3))) == (3, "")


def test_the_summary_of_torchrun_has_the_line_of_a_rank_once(ends, monkeypatch, tmp_path):
    """Where all ranks meet one error, each has it: who failed is what the summary is for."""
    told = tmp_path / "error.json"
    environment = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in {**environment, "TORCHELASTIC_ERROR_FILE": str(told)}.items():
        monkeypatch.setenv(name, value)
    code, err = ends(raising(UserError("one line")), ranks=True)
    assert (code, err) == (2, "[rank 1] error: one line\n")
    summary = ChildFailedError("ltvr.train", {1: ProcessFailure(0, 5, code, str(told))})
    assert str(summary).count("error: one line") == 1 and str(summary).count("one line") == 1


def test_a_reader_that_has_gone_is_no_error(ends, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert ends(lambda: print("x" * 10**6)) == (141, "")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:  # an error is still told
        monkeypatch.setattr(sys, "stdout", pipe)

        def main():
            print("some")
            raise UserError("told")

        assert ends(main) == (2, "error: told\n")


def test_a_stdout_that_cannot_encode_or_is_full(ends, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert ends(lambda: print("Zürich \udcff")) == (0, "")
    assert written.getvalue() == b"Z\\xfcrich \\udcff\n"
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, err = ends(lambda: print("lost"))
        assert code == 2 and "No space left on device; free space" in err
