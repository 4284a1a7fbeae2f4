"""Images are read beside the network, in order, and few at a time."""

import io
import itertools
import time
from pathlib import Path

import pytest

from ltvr.data.images import Decoder
from ltvr.engine import inputs
from ltvr.engine.inputs import Input, Problems, find_inputs, read_batches
from ltvr.engine.trained import load_trained


def test_reading_goes_on_beside_the_caller_and_no_further_than_two_batches(
    finished, tmp_path, write_images, monkeypatch
):
    write_images(tmp_path, ["a.png"])
    monkeypatch.setattr(inputs, "BATCH", 3)
    asked, read, of = [], [], Decoder.read
    monkeypatch.setattr(Decoder, "read", lambda self, path: read.append(1) or of(self, path))
    endless = (asked.append(i) or Input(tmp_path / "a.png", i) for i in itertools.count())
    batches = read_batches(endless, load_trained(finished), Problems())
    first, second = next(batches), next(batches)
    assert [each.label for each in (*first.inputs, *second.inputs)] == list(range(6))
    assert first.images.shape == (3, 3, 16, 16)
    until = time.monotonic() + 5
    while len(read) < 6 + 6 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(read) >= 12 and len(asked) <= 6 + 2 * 3 + 1
    batches.close()


def test_the_order_is_that_of_the_names_whatever_is_read_first(
    finished, tmp_path, write_images, monkeypatch
):
    names = [f"{i}.png" for i in range(8)]
    write_images(tmp_path, names)
    (tmp_path / "5.png").write_text("no image")
    of = Decoder.read

    def slow(self, path):
        time.sleep(0.005 * (8 - int(path.stem)))
        return of(self, path)

    monkeypatch.setattr(Decoder, "read", slow)
    monkeypatch.setattr(inputs, "BATCH", 3)
    problems = Problems()
    found = read_batches(
        find_inputs([str(tmp_path)], None, [], problems), load_trained(finished), problems
    )
    batches = [[each.path.name for each in batch.inputs] for batch in found]
    assert batches == [names[:3], [names[3], names[4], names[6]], [names[7]]]
    assert problems.number == 1


def test_files_folders_patterns_lists_and_stdin(tmp_path, write_images, monkeypatch, capsys):
    folder = tmp_path / "pictures"
    names = ["0/no 1.png", "0/no 2.png", "1/a/3.JPG", "4.png"]
    write_images(folder, [*names, ".hidden.png", ".git/1.png"])
    (folder / "notes.pdf").touch()
    everything = [folder / name for name in names]

    def found(*given, root=None):
        problems = Problems()
        paths = [i.path for i in find_inputs(map(str, given), root, [], problems)]
        assert not problems.number, capsys.readouterr().err
        return paths

    assert found(folder) == everything
    passed = capsys.readouterr().err
    assert passed.count("\n") == 1 and "2 hidden" in passed and "1 of type .pdf" in passed
    assert found(folder / "*") == found(folder / "**" / "*") == everything
    assert found(folder / "[0]" / "*") == everything[:2]
    (folder / "a.txt").write_text("\n".join(names) + "\n")
    (folder / "b.csv").write_text("".join(f'"{n}",{k}\r\n' for k, n in enumerate(names)))
    assert found(folder / "a.txt") == found(folder / "b.csv") == everything
    (folder / "b.csv").rename(tmp_path / "b.csv")
    assert found(tmp_path / "b.csv", root=folder) == everything
    text = f"{everything[1]}\n\n{everything[0]} 7\ngone away.png\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    expected = [everything[2], everything[1], everything[0], Path("gone away.png")]
    assert found(everything[2], "-") == expected


@pytest.mark.parametrize("given", ["folder", "list.txt"])
def test_classes_are_those_of_folders_and_lists(given, tmp_path, write_images):
    files = ["cat/1.png", "dog/a/2.png", "cow/3.png", "4.png"]
    write_images(tmp_path / "folder", files)
    lines = ["folder/4.png", "folder/cat/1.png cat", "folder/cow/3.png,1", "folder/4.png 2"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    problems = Problems()
    found = list(find_inputs([str(tmp_path / given)], None, ["cat", "dog"], problems))
    labels = {str(each.path.relative_to(tmp_path / "folder")): each.label for each in found}
    if given == "folder":
        assert labels == {"cat/1.png": 0, "dog/a/2.png": 1, "cow/3.png": -1, "4.png": -1}
    else:
        assert [each.label for each in found] == [-1, 0, 1, -1] and not problems.number
