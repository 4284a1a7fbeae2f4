"""What is kept of image files between runs is never older than the files."""

import os

import numpy as np
import pytest
from PIL import Image

from ltvr.data import survey as module
from ltvr.data.survey import ranges_of, survey


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SETTLED", 0.0)  # or nothing written just now would be kept


def test_a_file_is_read_once_until_it_changes(tmp_path, write_images, monkeypatch):
    write_images(tmp_path, ["a.png", "b.png"])
    paths, read = [tmp_path / "a.png", tmp_path / "b.png"], []
    facts_of = module._facts
    monkeypatch.setattr(module, "_facts", lambda p: read.append(p.name) or facts_of(p))
    first = survey(paths)
    assert sorted(read) == ["a.png", "b.png"] and survey(paths) == first and len(read) == 2

    # The same size and time of change: only what cannot be set by hand tells.
    before = os.stat(paths[0])
    content = bytearray(paths[0].read_bytes())
    content[-1] ^= 1  # of the checksum that ends a PNG; Pillow does not read it
    paths[0].write_bytes(content)
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = survey(paths)
    assert changed[0].sha256 != first[0].sha256 and changed[1] == first[1] and len(read) == 3

    # An environment that cannot read all of it, or otherwise.
    monkeypatch.setattr(module, "formats", lambda: ("PNG",))
    assert survey(paths) == changed and len(read) == 5


def test_facts_and_ranges(tmp_path):
    for name, values in {"a": [3, 400], "b": [1, 20]}.items():
        Image.fromarray(np.array([values], np.uint16)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(tmp_path / "c.tiff")
    Image.fromarray(np.array([[np.nan, np.inf]], np.float32)).save(tmp_path / "d.tiff")
    facts = survey([tmp_path / n for n in ("a.png", "b.png", "c.tiff", "d.tiff")])
    assert (facts[0].width, facts[0].height, facts[0].mode) == (2, 1, "I;16")
    assert "no value that is a finite number" in facts[3].problem
    assert [each.not_finite for each in facts] == [0, 0, 1, 0]
    assert ranges_of(facts) == {"uint16": (1.0, 400.0), "float32": (0.5, 0.5)}


def test_without_a_place_to_keep_facts_all_is_read(tmp_path, write_images, monkeypatch):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert survey([tmp_path / "a.png"])[0].sha256
    assert survey([tmp_path / "gone.png"])[0].problem.endswith("is missing; restore it")
