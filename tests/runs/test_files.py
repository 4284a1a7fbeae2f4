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
    assert done == [str(tmp_path / "a.partial"), "replace", str(tmp_path)]


def test_the_file_of_before_is_kept_under_another_name(tmp_path):
    path, former = tmp_path / "last", tmp_path / "previous"
    for text in "abc":
        with files.replacing(path, former) as partial:
            partial.write_text(text)
    assert (path.read_text(), former.read_text()) == ("c", "b")
