"""The examples run as they are."""

import json

import numpy as np
from PIL import Image

import afa_in_your_own_model
import read_a_run
import train_on_your_folder


def test_train_on_your_folder(tmp_path, capsys):
    """Classes of one colour each, under noise: far more than chance is learnt in eight epochs."""
    random = np.random.default_rng(0)
    for split, counts in (("train", (40, 20, 8)), ("test", (6, 6, 6))):
        for k, (name, count) in enumerate(zip(("red", "green", "blue"), counts, strict=True)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 100, (32, 32, 3))
                pixels[..., k] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    accuracy = train_on_your_folder.main(tmp_path, tmp_path / "runs", epochs=8)
    assert set(accuracy) == {"baseline", "ltvr"}
    assert max(accuracy.values()) > 60
    assert "a test image of blue is taken for" in capsys.readouterr().out


def test_afa_in_your_own_model_learns():
    first, last = afa_in_your_own_model.main()
    assert last < 0.5 * first


def test_read_a_run(finished, capsys):
    classes = read_a_run.main(finished)
    counts = json.loads((finished / "manifest.json").read_text())["train_counts"]
    assert [images for _, images, _ in classes] == sorted(counts)
    out = capsys.readouterr().out
    assert "ltvr on digits" in out and out.count("epoch") == 3
