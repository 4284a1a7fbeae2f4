"""Which files are images, and that nothing is passed over without a word."""

import numpy as np
import pytest
from conftest import config_of

from ltvr.data.datasets import load_data, load_labelled
from ltvr.data.files import Found, class_folders, find_images, read_list, split_line
from ltvr.errors import UserError


def folder_config(root, **values):
    return config_of(dataset="folder", root=str(root), image_size=8, **values)


def test_nested_folders_and_files_without_an_ending_are_images(folder, write_images):
    write_images(folder / "train/dog", ["2019/1.png", "2019/may/2.jpg", "z.png"])
    (folder / "train/dog/z.png").rename(folder / "train/dog/n0144_10")
    (folder / "train/dog/2019/up").symlink_to(folder / "train/dog")
    (folder / "train/dog/all").symlink_to(folder / "train")
    data = load_data(folder_config(folder))
    assert data.counts.tolist() == [2, 4]
    assert "2 a link to a folder above it" in data.notes[0]


def test_a_folder_that_may_not_be_looked_into_is_named(folder, monkeypatch):
    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ltvr.data.files.os.stat", denied)
    with pytest.raises(UserError, match="train/cat cannot be read .Permission denied."):
        class_folders(folder / "train", Found())


def test_what_is_passed_over_is_counted_and_named(folder):
    for name in (".ipynb_checkpoints/1.png", "cat/._1.png", "cat/a.pdf", "cat/b.pdf", "dog/x.h5"):
        (folder / "train" / name).parent.mkdir(exist_ok=True)
        (folder / "train" / name).write_bytes(b"%PDF")
    (folder / "train" / "dog" / "README").write_text("no image")
    (folder / "train" / "labels.csv").touch()
    data = load_data(folder_config(folder))
    assert data.classes == ["cat", "dog"] and data.counts.tolist() == [2, 1]
    (note,) = [n for n in data.notes if n.startswith("train: ")]
    for part in (
        "2 hidden (first: ", "2 of type .pdf (first: ", "a.pdf)", "1 of type .h5 (", "README)",
        "1 without an ending, no image (", "1 not in a class folder (",
    ):  # fmt: skip
        assert part in note


@pytest.mark.parametrize("size", [8, 72])
def test_bad_images_stop_before_training_or_are_skipped(folder, size):
    bad = folder / "train/cat/3.heic"
    bad.write_bytes(b"\0\0\0\x18ftypheic")
    config = folder_config(folder).replaced(image_size=size)
    with pytest.raises(UserError, match=r"3\.heic is of a type that needs pillow-heif.*1 of 4"):
        load_data(config)
    cut = folder / "train/cat/2.png"
    cut.write_bytes(cut.read_bytes()[:-40])
    data = load_data(config.replaced(bad_images="skip"))
    assert data.counts.tolist() == [1, 1] and data.unreadable["train"].keys() == {
        str(bad),
        str(cut),
    }
    assert any("skipped 2 unreadable, first: " in note for note in data.notes)
    cut.with_name("1.png").write_bytes(b"")
    with pytest.raises(UserError, match="class 'cat' has no training image"):
        load_data(config.replaced(bad_images="skip"))


def test_deep_test_images_need_deep_training_images(folder):
    from PIL import Image

    Image.fromarray(np.full((8, 8), 400, np.uint16)).save(folder / "test/cat/3.png")
    with pytest.raises(UserError, match=r"3\.png has values of type uint16.*8 bits alone"):
        load_data(folder_config(folder))
    for k in (1, 2):
        values = np.full((8, 8), 200 * k, np.uint16)
        Image.fromarray(values).save(folder / f"train/cat/{k}.png")
    data = load_data(folder_config(folder))
    assert data.ranges == {"uint16": (200.0, 400.0)}
    assert [int(image.max()) for image in data.train.images[:2]] == [0, 255]
    assert int(data.test.images[2].min()) == 255


def test_photographs_for_a_small_network_are_told(folder, write_images):
    write_images(folder / "train", ["cat/1.png", "cat/2.png", "dog/1.png"], size=100)
    notes = load_data(folder_config(folder).replaced(image_size=32)).notes
    assert "100 x 100 pixels (median) are squashed to 32 x 32" in notes[0]
    assert "raise --image-size" in notes[0]
    (said,) = load_data(folder_config(folder).replaced(image_size=64)).notes
    assert "raise" not in said


@pytest.mark.parametrize(
    "content",
    [
        b"a b.png 0\nc.png 1\n",
        b"\xef\xbb\xbfa b.png\t0\r\nc.png\t1\r\n",
        b"a b.png,0\nc.png,1",
        b"a b.png , 0\n\nc.png , 1\n\n",
        b'"a b.png" 0\n"c.png" 1\n',
        "a b.png 0\nc.png 1\n".encode("utf-16"),
    ],
)
def test_lists_as_people_write_them(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    found = [(image, label) for _, image, label in read_list(tmp_path / "list.txt")]
    assert found == [("a b.png", "0"), ("c.png", "1")]


@pytest.mark.parametrize(
    "line",
    ['a b.png,"chat noir"', "a b.png\tchat noir", '"a b.png" "chat noir"', 'a b.png\t"chat noir"'],
)
def test_labels_with_spaces_are_in_quotes_or_after_a_tab(line):
    assert split_line(line) == ("a b.png", "chat noir")


def test_names_that_are_not_utf8_are_found_as_they_are(tmp_path, write_images):
    import os

    write_images(tmp_path, ["x.png"])
    os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png 0\n")
    config = config_of(image_size=8)
    split = load_labelled(tmp_path / "list.txt", config, ["a", "b"], {})
    assert split.labels.tolist() == [0] and split.images.shape == (1, 3, 8, 8)


def test_labelled_images_of_any_place(folder, tmp_path):
    config, classes = config_of(image_size=8), ["cat", "dog"]
    assert load_labelled(folder / "test", config, classes, {}).labels.tolist() == [0, 0, 1]
    for labels, names in (("10", classes), (("dog", "cat"), classes), ("01", ["1", "0"])):
        lines = f"test/dog/1.png,{labels[0]}\ntest/cat/1.png,{labels[1]}\n"
        (tmp_path / "list.csv").write_text(lines)
        found = load_labelled(tmp_path / "list.csv", config, names, {}).labels.tolist()
        assert found == [1, 0]  # where names are numbers, all are names or none is
    (tmp_path / "list.csv").write_text("test/dog/1.png,cow\ntest/cat/1.png,cat\n")
    with pytest.raises(UserError, match="line 1: label 'cow': expected the number or the name"):
        load_labelled(tmp_path / "list.csv", config, classes, {})
    (tmp_path / "list.csv").write_text("image,label\ntest/dog/1.png,dog\n")
    with pytest.raises(UserError, match=r"line 1: label 'label'.*heading\? remove it"):
        load_labelled(tmp_path / "list.csv", config, classes, {})
    (tmp_path / "list.csv").write_text("test/dog/1.png,2\n")
    with pytest.raises(UserError, match="label 2 is out of range"):
        load_labelled(tmp_path / "list.csv", config, classes, {})


def test_order_is_that_of_names(folder):
    found = Found()
    assert find_images(folder / "train", found, 3) == 3
    names = [str(path.relative_to(folder / "train")) for path in found.images]
    assert names == ["cat/1.png", "cat/2.png", "dog/1.png"] and found.labels == [3, 3, 3]


def test_a_list_in_another_place_says_what_to_check(tmp_path, write_images):
    write_images(tmp_path, ["caf.png"])
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png 0\n")
    with pytest.raises(UserError, match=r"is missing \(the list is not UTF-8\).*check --root"):
        load_labelled(tmp_path / "list.txt", config_of(image_size=8), ["a", "b"], {})


def test_labels_that_start_at_1_are_said_to(tmp_path, write_images):
    write_images(tmp_path, ["1.png", "2.png"])
    for split in ("train", "val", "test"):
        (tmp_path / f"Places_LT_{split}.txt").write_text("1.png 1\n2.png 2\n1.png 2\n")
    config = config_of(dataset="places-lt", root=str(tmp_path), image_size=8)
    with pytest.raises(UserError, match=r"labels start at 1; expected 0: subtract 1"):
        load_data(config)
    (tmp_path / "Places_LT_train.txt").write_text("1.png 0\n2.png 2\n2.png 2\n")
    with pytest.raises(UserError, match=r"class '1' has no training image; labels count from 0"):
        load_data(config)
