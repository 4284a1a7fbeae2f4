"""A file that a command writes is whole or not there, and refused before the work."""

import errno

import pytest

from ltvr.errors import UserError
from ltvr.runs.output import output


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("before")
    full = OSError(errno.ENOSPC, "No space left on device")
    for error, seen in ((KeyboardInterrupt(), KeyboardInterrupt), (full, UserError)):
        with pytest.raises(seen), output(path, "--out") as file:
            file.write("half")
            file.flush()
            raise error
        assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with output(path, "--out") as file:
        file.write("after \udcff\n")
        assert path.read_text() == "before"
    assert path.read_bytes() == b"after \\udcff\n" and list(tmp_path.iterdir()) == [path]
    with output(path, "--out", binary=True) as file:
        file.write(b"\0")
    assert path.read_bytes() == b"\0"


def test_what_cannot_be_read_is_not_said_of_what_is_written(tmp_path):
    for error in (PermissionError(errno.EACCES, "denied", "photo.png"), BrokenPipeError()):
        with pytest.raises(type(error)), output(tmp_path / "a", "--out"):
            raise error
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_first(tmp_path):
    for path, words in {
        tmp_path: "--out .* is a folder; name a file in it",
        tmp_path / "gone" / "a": "--out .* there is no folder",
        tmp_path / ("a" * 300): "cannot write .* too long",
    }.items():
        with pytest.raises(UserError, match=words), output(path, "--out"):
            pytest.fail("the work began")
