"""Predictions: of whatever is named, in every format, whatever of it cannot be read."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from PIL import Image

import ltvr.predict
from ltvr.data.datasets import load_data
from ltvr.data.options import DataOptions
from ltvr.engine import inputs
from ltvr.engine.trained import load_trained

CHOSEN = range(0, 500, 60)


@pytest.fixture
def pictures(tmp_path):
    """Test images of the digits, in folders of their classes."""
    test = load_data(tiny_config()).test
    paths = [tmp_path / "pictures" / str(test.labels[i]) / f"no {i}.png" for i in CHOSEN]
    for i, path in zip(CHOSEN, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.images[i].permute(1, 2, 0).numpy()).save(path)
    return paths


@pytest.fixture(scope="session")
def expected(finished):
    """The probabilities of these images, by the network itself."""
    model, config, *_ = load_trained(finished, "cpu")
    data = config.of(DataOptions)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))
    images = load_data(config).test.images[list(CHOSEN)].float()
    with torch.no_grad():
        return model((images / 255 - mean) / std).softmax(1)


@pytest.fixture
def predicted(finished, command):
    """The path and the ranked classes of each line of ``--format json``."""

    def predict(*arguments):
        code, out, err = command(ltvr.predict, finished, *arguments, "--format", "json")
        assert code == 0, err
        lines = [json.loads(line) for line in out.splitlines()]
        return [line["path"] for line in lines], [
            {each["class"]: each["probability"] for each in line["classes"]} for line in lines
        ]

    return predict


def test_every_format_has_the_likeliest_classes(
    pictures, expected, finished, command, predicted, monkeypatch
):
    monkeypatch.setattr(inputs, "BATCH", 4)  # two batches, and a smaller one
    top = expected.topk(2)
    classes = load_trained(finished).classes
    names = [[classes[k] for k in ks] for ks in top.indices.tolist()]

    paths, found = predicted(*pictures, "--top", 2)
    assert paths == list(map(str, pictures)) and [list(each) for each in found] == names
    values = torch.tensor([list(each.values()) for each in found])
    torch.testing.assert_close(values, top.values, rtol=1e-4, atol=1e-6)

    code, out, _ = command(ltvr.predict, finished, *pictures, "--top", 2, "--format", "csv")
    heading, *rows = csv.reader(io.StringIO(out, newline=""))
    assert code == 0 and heading == ["path", "class1", "probability1", "class2", "probability2"]
    assert [row[0::2] for row in rows] == [
        [str(path), f"{a:.6g}", f"{b:.6g}"]
        for path, (a, b) in zip(pictures, values.tolist(), strict=True)
    ]
    assert [row[1::2] for row in rows] == names

    code, out, _ = command(ltvr.predict, finished, *pictures, "--top", 2)
    for line, path, ks, ps in zip(out.splitlines(), pictures, names, values.tolist(), strict=True):
        assert line == f"{path}: {', '.join(f'{k} {p:.1%}' for k, p in zip(ks, ps, strict=True))}"


def test_what_cannot_be_read_is_said_and_the_rest_is_done(pictures, finished, command, tmp_path):
    bad = tmp_path / "pictures" / "0" / "a\n\x1b[31merror: forged.png"
    bad.write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_bytes(b"\n\n")
    given = [
        tmp_path / "gone.png",
        bad.parent,
        tmp_path / "empty",
        "no*.png",
        tmp_path / "list.txt",
        pictures[1],
    ]
    code, out, err = command(ltvr.predict, finished, *given)
    assert code == 1
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(p) for p in pictures[:2]]
    *errors, last = err.splitlines()
    assert last == "classified: 2, failed: 5 (see above)"
    words = [
        "empty has no images",
        "no*.png has no images",
        "list.txt has no lines",
        "gone.png: there is no image, folder or list of this name",
    ]
    for word in (*words, "0/a\\n\\x1b[31merror: forged.png is corrupt"):
        assert sum(word in line and line.startswith("error: ") for line in errors) >= 1, word
    assert len(errors) == 5 and "\x1b" not in err + out


def test_a_root_without_a_list_is_refused(pictures, finished, command, tmp_path):
    code, out, err = command(ltvr.predict, finished, pictures[0], "--root", tmp_path)
    assert code == 2 and out == "" and "is for the paths of lists, and none is given" in err


@pytest.mark.parametrize("top", [-1, 0, 11])
def test_top_is_of_the_classes(top, finished, command):
    code, out, err = command(ltvr.predict, finished, "x.png", "--top", top)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"--top {top}: expected 1 to 10" in err


def test_probabilities_under_other_class_frequencies(pictures, predicted, finished, tmp_path):
    """By Bayes' theorem, with the frequencies of cRT, which are uniform."""
    counts = json.loads((finished / "manifest.json").read_text())["train_counts"]
    _, plain = predicted(*pictures, "--top", 10)
    file = tmp_path / "prior.csv"
    file.write_text("".join(f"{k}, {k * k}\n" for k in range(10)))
    weights = {"train": counts, file: [k * k for k in range(10)]}
    for prior, weight in weights.items():
        _, found = predicted(*pictures, "--top", 10, "--prior", prior)
        for before, after in zip(plain, found, strict=True):
            moved = {name: p * weight[int(name)] for name, p in before.items()}
            total = sum(moved.values())
            assert after == pytest.approx({k: p / total for k, p in moved.items()}, rel=1e-4)


def test_a_row_of_csv_holds_line_ends(capsys):
    ltvr.predict.as_csv(1)(Path("a\rb.png"), [("c\nd\r", 0.5)])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert rows == [["path", "class1", "probability1"], ["a\rb.png", "c\nd\r", "0.5"]]
