"""What is said of a data set before a run agrees with what a run does, and is all of it."""

import json
import shutil

import numpy as np
import pytest
from conftest import config_of
from PIL import Image

import ltvr.check
from ltvr.data.datasets import load_data
from ltvr.errors import UserError


@pytest.fixture
def data(tmp_path, write_images):
    """A good folder data set."""
    names = [f"{k}/{i}.png" for k in ("cat", "dog") for i in range(6)]
    for seed, split in enumerate(("train", "test")):
        write_images(tmp_path / "data" / split, names, seed=seed)
    return tmp_path / "data"


def test_a_good_folder(data, command, tmp_path):
    shutil.rmtree(data / "train" / "dog")
    (data / "train" / "dog").mkdir()
    sizes = [(10, 30), (400, 300)]
    for i, (width, height) in enumerate(sizes):
        Image.new("L", (width, height), i).save(data / "train" / "dog" / f"{i}.png")
    Image.fromarray(np.array([[3, 400]], np.uint16)).save(data / "train" / "dog" / "deep.png")
    holes = np.array([[0.5, np.nan]], np.float32)
    Image.fromarray(holes).save(data / "train" / "dog" / "holes.tiff")
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(data / "train" / "cat" / "z.gif", save_all=True, append_images=frames[1:])
    for passed_over in (".DS_Store", "cat/._1.png", "cat/notes.pdf"):
        (data / "train" / passed_over).touch()
    code, out, err = command(ltvr.check, data, "--json", tmp_path / "found.json")
    assert (code, err) == (0, "") and out.endswith("a run can start\n")
    for line in (
        "train: 11 images of 2 classes",
        "test: 12 images of 2 classes",
        "    pixels: smallest 2 x 1, median 8 x 8, largest 400 x 300",
        "classes: 2, 7 (cat) to 4 (dog) training images, 1.8 : 1; 0 many, 0 medium, 2 few",
        "    modes: RGB 6, L 2, P 1, I;16 1, F 1",
        "    of several frames, of which the first is used: 1",
        "    with pixels that are not a finite number (nan becomes black): 1",
        "uint16: 3 of the training images becomes black, 400 white",
        "classes of fewer than 5 training images: 1",
        "    dog (4)",
        "    cat: 7 train, 6 test; few",
    ):
        assert line in out.splitlines(), (line, out)
    assert "passed over: 2 hidden" in out and "1 of type .pdf" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["classes"]["dog"] == {"shot": "few", "images": {"train": 4, "test": 6}}
    assert found["problems"] == [] and len(found["splits"]["train"]["passed_over"]) == 3


def test_a_hold_out_does_without_a_test_set(data, command, write_images):
    (data / "test/cat/0.png").write_bytes(b"no picture")
    code, out, _ = command(ltvr.check, data)
    assert code == 1 and "test: 1 of 12 images cannot be read" in out
    code, out, err = command(ltvr.check, data, "--holdout", 2)
    assert code == 0 and "test" not in "".join(out.splitlines()[:-2]), err
    assert out.splitlines()[-2].startswith("a run is judged on a hold-out of 4 images of the train")
    shutil.rmtree(data / "test")
    code, out, _ = command(ltvr.check, data)
    assert (
        code == 1
        and "test is missing; a run needs test/<class>/<image>, or, without a test set, --holdout"
        in out
    )
    assert command(ltvr.check, data, "--holdout", 0.5)[0] == 0
    code, out, _ = command(ltvr.check, data, "--holdout", 2, "--holdout-from", "val")
    assert code == 1 and "folder has no validation split here" in out
    code, _, err = command(ltvr.check, data, "--holdout-from", "val")
    assert code == 2 and "--holdout-from changes nothing with holdout = 0.0" in err
    code, _, err = command(ltvr.check, data, "--lists", "/nowhere")
    assert code == 2 and "--lists changes nothing with dataset = folder" in err
    write_images(data / "train", ["zebra/0.png"])  # it gives none
    _, out, _ = command(ltvr.check, data, "--holdout", 2)
    assert "0 to 2 of each class" in out


def test_copies_within_and_across_splits_and_classes(data, command, tmp_path):
    shutil.copy(data / "train/cat/0.png", data / "train/cat/again.png")
    shutil.copy(data / "train/cat/1.png", data / "test/cat/leak.png")
    shutil.copy(data / "train/dog/2.png", data / "test/cat/other.png")
    shutil.rmtree(data / "test" / "dog")
    code, out, _ = command(ltvr.check, data, "--json", tmp_path / "found.json")
    assert code == 0
    for line in (
        "train: 1 images are copies of others in it",
        "test images that are in train too: 2",
        f"    {data / 'test/cat/leak.png'}",
        "the same image under several classes: 1",
        f"    {data / 'train/dog/2.png'} (dog) = {data / 'test/cat/other.png'} (cat)",
        "classes without a test image: 1",
        "    dog",
    ):
        assert line in out.splitlines(), (line, out)
    found = json.loads((tmp_path / "found.json").read_text())
    assert {len(group) for group in found["copies"]} == {2} and len(found["copies"]) == 3
    assert found["leaks"] == {
        "train test": [str(data / "test/cat" / n) for n in ("leak.png", "other.png")]
    }


def test_copies_and_what_is_passed_over_are_named_if_asked_for(data, command):
    copies = [data / "train/cat/0.png", data / "train/cat/again.png"]
    shutil.copy(*copies)
    (data / "test/cat/notes.pdf").touch()
    named = (f"    {copies[0]} = {copies[1]}", f"        {data}/test/cat/notes.pdf: of type .pdf")
    for options, expected in (([], False), (["--verbose"], True)):
        _, out, _ = command(ltvr.check, data, *options)
        assert all((line in out.splitlines()) == expected for line in named), out


def test_many_classes_are_all_named_if_asked_for(command, tmp_path, write_images):
    for split in ("train", "test"):
        names = [f"k{k:02}/{i}.png" for k in range(31) for i in range(1 if k % 2 else 2)]
        write_images(tmp_path / split, names)
    code, out, _ = command(ltvr.check, tmp_path, "--verbose")
    said = [line.strip() for line in out.splitlines() if line.endswith("; few")]
    assert code == 0 and len(said) == 31
    assert (said[0], said[-1]) == ("k00: 2 train, 2 test; few", "k29: 1 train, 1 test; few")
    code, out, _ = command(ltvr.check, tmp_path)
    named = [line.strip() for line in out.splitlines() if line.endswith("; few")]
    assert named == said[:10] + said[-10:] and "and 11 more between (--verbose" in out


def test_a_split_in_place_of_the_data_set(data, command):
    code, out, _ = command(ltvr.check, data / "train")
    assert code == 1 and f"{data} has train and test; name {data}\n" in out
    assert out.endswith("a run would stop at 1 problem\n")


def spoil(path):
    path.write_bytes(path.read_bytes()[:-40])


FAULTS = {
    "test/cat/2.png": lambda d: spoil(d / "test/cat/2.png"),
    "train/cow has no image": lambda d: (d / "train/cow").mkdir(),
    "test/cow is a class that": lambda d: (d / "test/cow").mkdir(),
    "val/cow is a class that": lambda d: (d / "val/cow").mkdir(parents=True),
    "val: there are no images": lambda d: (d / "val/cat").mkdir(parents=True),
    "test is missing": lambda d: shutil.rmtree(d / "test"),
    "train is missing": lambda d: shutil.rmtree(d / "train"),
    "1 class folders": lambda d: shutil.rmtree(d / "train/cat"),
    "test: there are no images": lambda d: [p.unlink() for p in (d / "test").glob("*/*")],
    "values of type uint16": lambda d: Image.fromarray(np.array([[1, 2]], np.uint16)).save(
        d / "test/cat/deep.png"
    ),
}


@pytest.mark.parametrize("word", FAULTS)
def test_what_a_run_stops_at(word, data, command):
    FAULTS[word](data)
    code, out, err = command(ltvr.check, data)
    assert (code, err) == (1, "") and word in out
    config = config_of(dataset="folder", root=str(data), image_size=65)
    with pytest.raises(UserError):
        load_data(config)


def test_all_problems_at_once_and_none_that_a_run_would_skip(data, command, tmp_path):
    for i in range(6):
        spoil(data / "train" / "cat" / f"{i}.png")
        spoil(data / "test" / "cat" / f"{i}.png")
    (data / "test" / "cow\n\x1b[31m").mkdir()
    code, out, _ = command(ltvr.check, data)
    assert code == 1 and out.endswith("a run would stop at 3 problems\n")
    assert out.count("is corrupt") == 12 and "\x1b" not in out and "cow\\n" in out
    (data / "test" / "cow\n\x1b[31m").rmdir()
    code, out, _ = command(ltvr.check, data, "--bad-images", "skip")
    assert code == 1 and "problem: class 'cat' has no training image" in out
    shutil.copy(data / "train/dog/0.png", data / "train/cat/0.png")
    assert command(ltvr.check, data, "--bad-images", "skip")[0] == 0


def test_many_names_only_when_asked_for(data, command):
    for i in range(12):
        (data / "test" / "dog" / f"bad{i}.png").write_text("no image")
    _, out, _ = command(ltvr.check, data)
    assert out.count("is corrupt") == 10 and "    and 2 more (--verbose names them)" in out
    assert command(ltvr.check, data, "--verbose")[1].count("is corrupt") == 12


def test_a_folder_of_classes_alone(data, command):
    shutil.rmtree(data / "test")
    code, out, _ = command(ltvr.check, data / "train")
    assert code == 1 and "all: 12 images of 2 classes" in out and "train is missing" in out


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("train", "", "a run can start"),
        ("train", "1.png -1", "1 lines are not `path label`"),
        ("test", "gone.png 1", "test: 1 of 3 images cannot be read"),
    ],
)
def test_lists(name, line, words, command, tmp_path, write_images):
    write_images(tmp_path, ["1.png", "2.png"])
    for split in ("train", "val", "test"):
        text = f"1.png 0\n2.png 1\n{line if split == name else ''}\n"
        (tmp_path / f"ImageNet_LT_{split}.txt").write_text(text)
    code, out, _ = command(ltvr.check, tmp_path, "--dataset", "imagenet-lt")
    assert words in out and code == (1 if line else 0)
    config = config_of(dataset="imagenet-lt", root=str(tmp_path), image_size=65)
    if line:
        with pytest.raises(UserError):
            load_data(config)
    (tmp_path / "ImageNet_LT_test.txt").unlink()
    code, out, _ = command(ltvr.check, tmp_path, "--dataset", "imagenet-lt")
    assert code == 1 and "ImageNet_LT_test.txt is missing" in out


def what_a_run_says(options, root):
    with pytest.raises(UserError) as refused:
        load_data(config_of(root=str(root), image_size=65, **options))
    return f"problem: {refused.value}\n"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: shutil.rmtree(d / "train/cat"),
        lambda d: (d / "train/cow").mkdir(),
        lambda d: (d / "test/cow").mkdir(),
    ],
)
def test_a_folder_is_refused_in_the_words_of_a_run(spoil, data, command):
    spoil(data)
    said = what_a_run_says({"dataset": "folder"}, data)
    assert said in command(ltvr.check, data)[1]


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        ("122", "1", "labels start at 1; expected 0: subtract 1 from all"),
        ("022", "0", "class '1' has no training image"),
        ("017", "0", "label 7 is out of range; its 3 images"),
        ("000", "0", "has 1 class; expected at least 2"),
        ("011", "2", "label 2 is out of range; the training images have the classes 0 to 1"),
    ],
)
def test_labels_are_refused_in_the_words_of_a_run(
    train, val, words, command, tmp_path, write_images
):
    write_images(tmp_path, ["1.png"])
    for split, labels in (("train", train), ("val", val), ("test", "")):
        text = "".join(f"1.png {label}\n" for label in labels or train[:1])
        (tmp_path / f"ImageNet_LT_{split}.txt").write_text(text)
    said = what_a_run_says({"dataset": "imagenet-lt"}, tmp_path)
    code, out, _ = command(ltvr.check, tmp_path, "--dataset", "imagenet-lt")
    assert words in said and said in out and code == 1
    assert out.endswith("a run would stop at 1 problem\n")


def test_mistakes(command, tmp_path):
    code, _, err = command(ltvr.check, tmp_path / "gone")
    assert code == 2 and "gone' is no folder" in err
    code, _, err = command(ltvr.check, tmp_path, "--json", tmp_path)
    assert code == 2 and "is a folder; name a file in it" in err
