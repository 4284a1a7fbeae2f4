"""Files of a run: whole, old or new, whatever fails in between."""

import errno
import os

import pytest

from ltvr.errors import CannotWrite
from ltvr.runs import files


@pytest.fixture
def full(monkeypatch):
    """A disk that is full once something is flushed to it."""

    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, full):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(CannotWrite, match=r"summary.json \(No space left.* MB free\); make room"):
        files.write(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["summary.json"]


def test_a_line_that_cannot_be_added_leaves_nothing_of_it(tmp_path, full):
    path = tmp_path / "metrics.jsonl"
    path.write_text("one\n")
    with pytest.raises(CannotWrite, match="metrics.jsonl"):
        files.append(path, "two\n")
    assert path.read_text() == "one\n"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda d: done.append(os.readlink(f"/proc/self/fd/{d}")))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("replace"), replace(*a)))
    files.write(tmp_path / "a", "text")
    assert done[0].startswith(str(tmp_path / "a.")) and done[0].endswith(".partial")
    assert done[1:] == ["replace", str(tmp_path)]


def test_two_processes_may_write_one_file_at_once(tmp_path):
    """As two commands do that share the work, and write the table at its end."""
    path = tmp_path / "table.md"
    with files.replacing(path) as ours:
        ours.write_text("ours")
        files.write(path, "theirs")
    assert path.read_text() == "ours" and os.listdir(tmp_path) == ["table.md"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_ends_the_writing_leaves_nothing_of_it(tmp_path, error):
    with pytest.raises(error), files.replacing(tmp_path / "a") as partial:
        partial.write_text("half")
        raise error
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("last.pt.0123abcd.partial", "last.pt"),
        ("last.pt.partial", "last.pt"),  # as ltvr 0.1 wrote it
        ("last.pt.0123abc.partial", "last.pt.0123abc"),
        ("last.pt", ""),
    ],
)
def test_a_partial_file_says_what_it_was_to_be(name, whole):
    assert files.begun_file(name) == whole


def test_the_file_of_before_is_kept_under_another_name(tmp_path):
    path, former = tmp_path / "last", tmp_path / "previous"
    for text in "abc":
        with files.replacing(path, former) as partial:
            partial.write_text(text)
    assert (path.read_text(), former.read_text()) == ("c", "b")
