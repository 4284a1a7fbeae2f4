"""From files to predictions, training and evaluation see the same of a picture."""

import json

import numpy as np
from conftest import tiny_config
from PIL import Image

import ltvr.evaluate
import ltvr.predict
from ltvr.training import train


def test_a_class_at_the_edge_of_wide_pictures_is_found(command, tmp_path, monkeypatch):
    """Pictures of 3 : 1 whose centre tells nothing: 50 % is chance."""
    monkeypatch.setattr("ltvr.training.write_report", lambda *_: None)
    random = np.random.default_rng(0)
    for split, number in (("train", 12), ("test", 6)):
        for channel, name in enumerate(("a", "b")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(0, 120, (40, 120, 3))
                pixels[:, :10, channel] = 255
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / split / name / f"{i}.png")
    config = tiny_config(
        method="baseline", dataset="folder", root=str(tmp_path), image_size=72, imbalance=1.0,
        batch_size=8, lr_batch=0, lr=0.1, epochs=3, stages="features", workers=0,
        features_batchnorm="real",
    )  # fmt: skip
    run = tmp_path / "run"
    assert train(config, run)["metrics"]["features"]["all"] == 100
    for given in ([], ["--data", tmp_path / "test"]):
        code, _, err = command(ltvr.evaluate, run, *given, "--json", tmp_path / "m.json")
        assert code == 0, err
        assert json.loads((tmp_path / "m.json").read_text())["all"] == 100
    code, out, err = command(ltvr.predict, run, tmp_path / "test", "--format", "json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 12
    for line in lines:
        assert line["classes"][0]["class"] == line["path"].split("/")[-2]
