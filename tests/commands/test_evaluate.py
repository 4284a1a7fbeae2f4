"""Evaluation of one run and of several, on their own images and on others, and its tables."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_config

import ltvr.embed
import ltvr.evaluate
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.training import train


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run on files of three classes, by name ``run``, and its images in ``data``."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ltvr.training.write_report", lambda *_: None)
        random = np.random.default_rng(0)
        write_coloured(folder / "data", random)
        config = tiny_config(
            method="baseline", dataset="folder", root=str(folder / "data"), imbalance=1.0,
            batch_size=8, epochs=1, crt_epochs=1,
        )  # fmt: skip
        train(config, folder / "run")
    return folder


def write_coloured(root, random):
    from PIL import Image

    for split, counts in (("train", (12, 8, 4)), ("test", (3, 2, 4))):
        for k, (name, count) in enumerate(zip(("=a", "b\rc", "d"), counts, strict=True)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 100, (16, 16, 3))
                pixels[..., k] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i}.png")


@pytest.fixture
def moved(files, tmp_path):
    """A copy of the run whose images are where they were not, the training images gone."""
    run = shutil.copytree(files / "run", tmp_path / "run")
    shutil.copytree(files / "data" / "test", tmp_path / "elsewhere" / "test")
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace(str(files / "data"), str(tmp_path / "gone"))
    )
    return run


def metrics_of(files):
    return json.loads((files / "run" / "summary.json").read_text())["metrics"]


def test_images_that_have_moved_without_those_of_training(moved, files, command, tmp_path):
    tables = {n: tmp_path / f"{n}.csv" for n in ("per-class", "confusion")}
    options = [str(w) for name, path in tables.items() for w in (f"--{name}", path)]
    code, _, err = command(ltvr.evaluate, moved, *options)
    assert code == 2 and err.endswith("; if the images have moved: --root FOLDER\n"), err
    assert not any(path.exists() for path in tables.values())
    options += ["--root", tmp_path / "elsewhere", "--json", tmp_path / "m.json"]
    code, _, err = command(ltvr.evaluate, moved, *options)
    assert code == 0, err
    got, expected = json.loads((tmp_path / "m.json").read_text()), metrics_of(files)["crt"]
    assert got.pop("classes") == ["=a", "b\rc", "d"]
    assert got == {k: expected[k] for k in got}

    heading, *rows = csv.reader(tables["per-class"].open(newline=""))
    assert heading == ["class", "train_images", "images", "accuracy", "shot"]
    assert [row[:3] for row in rows] == [["=a", "12", "3"], ["b\rc", "8", "2"], ["d", "4", "4"]]
    assert [float(row[3]) for row in rows] == pytest.approx(got["per_class"], abs=1e-4)
    assert {row[4] for row in rows} == {"few"}
    heading, *rows = csv.reader(tables["confusion"].open(newline=""))
    assert heading[1:] == [row[0] for row in rows] == ["=a", "b\rc", "d"]
    assert [[int(n) for n in row[1:]] for row in rows] == expected["confusion"]


def test_the_runs_own_images_are_held_to_be_the_same(moved, command, tmp_path):
    image = tmp_path / "elsewhere" / "test" / "d" / "0.png"
    shutil.copy(image.parent / "1.png", image)
    at = ["--root", tmp_path / "elsewhere"]
    code, _, err = command(ltvr.evaluate, moved, *at)
    assert code == 2 and "the test images differ" in err
    assert err.endswith("; or evaluate other images with --data\n")
    code, out, err = command(ltvr.evaluate, moved, "--data", tmp_path / "elsewhere" / "test")
    assert code == 0 and "9 images that are no split of" in err and "data" in out


def test_other_images_by_folder_or_list(files, command, tmp_path):
    test, lists = files / "data" / "test", tmp_path / "list.csv"
    code, out, err = command(ltvr.evaluate, files / "run", "--data", test)
    assert code == 0 and "these are the test images of" in err
    lines = [f"d/{i}.png,d" for i in range(4)] + ["=a/0.png, 0"]
    lists.write_text("\n".join(lines))
    written = tmp_path / "m.json"
    options = ["--data", lists, "--root", test, "--json", written]
    assert command(ltvr.evaluate, files / "run", *options)[0] == 0
    listed, expected = json.loads(written.read_text()), metrics_of(files)["crt"]
    assert listed["per_class"][1] is None
    _, _, err = command(ltvr.evaluate, files / "run", *options)
    assert "no images of: b\\rc (1 class)\n" in err
    assert listed["per_class"][2] == pytest.approx(expected["per_class"][2])


def test_several_runs_are_rows_of_one_table(files, finished, command, tmp_path):
    runs = [files / "run", files / "run" / "features.pt"]
    code, out, err = command(ltvr.evaluate, *runs, runs[0], "--json", tmp_path / "m.json")
    assert code == 0, err
    heading, *rows = out.splitlines()
    metrics = metrics_of(files)
    assert [row.split()[0] for row in rows] == [str(run) for run in runs]
    for row, stage in zip(rows, ("crt", "features"), strict=True):
        assert row.split()[1] == f"{metrics[stage]['all']:.2f}"
        assert len(row) == len(heading)  # the columns are below each other
    written = json.loads((tmp_path / "m.json").read_text())
    assert list(written) == [str(run) for run in runs]
    code, out, err = command(ltvr.evaluate, runs[1], finished, "--data", files / "data" / "test")
    assert code == 2 and "is a class that" in err  # not of the other run
    assert out.splitlines()[1].split()[:2] == [str(runs[1]), f"{metrics['features']['all']:.2f}"]
    code, out, err = command(ltvr.evaluate, *runs, finished)  # of other classes
    assert code == 0, err
    assert [len(each.splitlines()) for each in out.split("\n\n")] == [3, 2]
    code, _, err = command(ltvr.evaluate, *runs, "--confusion", tmp_path / "c.csv")
    assert code == 2 and "--confusion is for one run" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{run}/stage.pt", "stage.pt is missing; name a run folder"),
        ("{run} --json {tmp}", "is a folder; name a file in it"),
        ("{run} --per-class {tmp}/gone/a.csv", "there is no folder {tmp}/gone"),
        ("{run} --confusion /dev/full", "is no regular file"),
        ("{run} --json {tmp}/a --confusion {tmp}/a", "--confusion {tmp}/a is the file of --json"),
        ("{run} --data {tmp}/gone", "--data {tmp}/gone is missing"),
        ("{run} --data {data}/test --root {data}", "--root is for lists"),
        ("{run} --data {data}/test --split test", "--split is of the run's own images"),
        ("{run} --data {data}", "say which split of it: --data {data}/test"),
        ("{run} --data {tmp}/cow", "cow is a class that"),
        ("{run} --data {tmp}/list.txt", "label 3 is out of range"),
        ("{run} --lists {tmp}", "--lists changes nothing for folder"),
        ("{digits} --root {tmp}", "--root changes nothing for digits"),
        ("{run} {tmp}", "is no run"),
        ("{run} --fused", "method baseline has no AFA to run fused; drop --fused"),
    ],
)
def test_mistakes_are_named_before_anything_is_evaluated(
    arguments, words, files, finished, command, tmp_path, write_images, monkeypatch
):
    monkeypatch.setattr("ltvr.evaluate.evaluate_split", lambda *_, **__: pytest.fail("too late"))
    write_images(tmp_path / "cow", ["cow/1.png"])
    (tmp_path / "list.txt").write_text("cow/cow/1.png 3")
    places = {"run": files / "run", "data": files / "data", "tmp": tmp_path, "digits": finished}
    code, out, err = command(ltvr.evaluate, *arguments.format(**places).split())
    assert (code, out, err.count("\n")) == (2, "", 1) and words.format(**places) in err


def test_advice_on_training_is_not_given_later(files, command, monkeypatch):
    load = ltvr.engine.source.load_data

    def advised(config):
        data = load(config)
        data.train.notes.append("train: passed over 1 hidden")
        data.test.notes.append("test: skipped 1")
        return replace(data, advice=["raise --image-size"])

    monkeypatch.setattr("ltvr.engine.source.load_data", advised)
    code, _, err = command(ltvr.evaluate, files / "run", "--split", "train")
    assert (code, err) == (0, "train: passed over 1 hidden\n")


# ---- embeddings ----


def test_embeddings_of_a_split_and_of_files(files, command, tmp_path):
    trained = load_trained(files / "run", "cpu")
    test = load_data(trained.config).test
    images, labels = next(Batches(test, trained.config, trained.device).evaluate(9))
    with torch.no_grad():
        expected = trained.network.outputs(images)
    data, out = files / "data" / "test", tmp_path / "e.npz"
    for given in ([], [data]):
        code, _, err = command(ltvr.embed, files / "run", *given, "--out", out)
        assert code == 0, err
        found = np.load(out)
        for name in ("embeddings", "logits"):
            wanted = getattr(expected, name).numpy()
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5)
        assert found["labels"].tolist() == labels.tolist()
        assert found["paths"].tolist() == [str(path) for path in test.paths]
        assert found["classes"].tolist() == ["=a", "b\rc", "d"]


def test_embeddings_without_what_cannot_be_read(files, command, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    good, out = files / "data" / "test" / "d" / "0.png", tmp_path / "e.npz"
    code, _, err = command(ltvr.embed, files / "run", tmp_path / "bad.png", good, "--out", out)
    assert code == 1 and err.count("\n") == 1 and "bad.png is corrupt" in err
    found = np.load(out)
    assert found["paths"].tolist() == [str(good)] and found["labels"].tolist() == [-1]
    out.unlink()
    code, _, err = command(ltvr.embed, files / "run", tmp_path / "bad.png", "--out", out)
    assert code == 2 and "nothing was written" in err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.png"]
    code, _, err = command(ltvr.embed, files / "run", good, "--split", "val", "--out", out)
    assert code == 2 and "--split is of the run's own images" in err


def test_embeddings_of_images_in_no_file_are_named_by_position(finished, command, tmp_path):
    code, out, err = command(ltvr.embed, finished, "--out", tmp_path / "e.npz")
    assert code == 0, err
    found = np.load(tmp_path / "e.npz")
    test = load_data(tiny_config()).test
    assert found["paths"].tolist() == [str(i) for i in test.indices]
    assert found["labels"].tolist() == test.labels.tolist()
