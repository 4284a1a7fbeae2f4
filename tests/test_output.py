"""A file that a command writes is whole or not there, and refused before the work."""

import errno

import pytest

from ltvr.errors import UserError
from ltvr.output import output


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), output(path, "--out") as file:
        file.write("half")
        file.flush()
        raise KeyboardInterrupt
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with (
        pytest.raises(UserError, match="--out .*a.csv cannot be written .No space"),
        output(path, "--out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with output(path, "--out") as file:
        file.write("after \udcff\n")
        assert path.read_text() == "before"
    assert path.read_bytes() == b"after \\udcff\n" and list(tmp_path.iterdir()) == [path]
    (tmp_path / "another").touch()
    assert path.stat().st_mode == (tmp_path / "another").stat().st_mode
    with output(path, "--out", binary=True) as file:
        file.write(b"\0")
    assert path.read_bytes() == b"\0"


def test_what_cannot_be_written_is_refused_first(tmp_path):
    for path, words in {
        tmp_path: "is a folder; name a file in it",
        tmp_path / "gone" / "a": "there is no folder",
        tmp_path / "\0": "embedded null byte",
    }.items():
        with pytest.raises(UserError, match=words), output(path, "--out"):
            pytest.fail("the work began")
