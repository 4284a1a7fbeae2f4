"""What a run was trained on, held to what is there when it goes on."""

import copy
import shutil

import pytest
from conftest import config_of

from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.settings import save_config


def test_other_images_classes_and_splits_are_noticed(tmp_path, write_images):
    for split in ("train", "test"):
        write_images(tmp_path / split, ["a/1.png", "a/2.png", "b/1.png"], size=72)
    config = config_of(dataset="folder", root=str(tmp_path), image_size=72)

    def found():
        return manifest(load_data(config), config)

    run = Run.create(tmp_path / "run", config, found(), "train")
    run.check_manifest(found())
    image = tmp_path / "test/a/1.png"
    content = image.read_bytes()
    write_images(tmp_path / "test", ["a/1.png"], size=72, seed=1)
    with pytest.raises(UserError, match="the test images differ"):
        run.check_manifest(found())
    image.write_bytes(content)  # as it was, written later
    run.check_manifest(found())
    for split in ("train", "test"):
        (tmp_path / split / "b").rename(tmp_path / split / "c")
    with pytest.raises(UserError, match=r"the classes differ .* \(b, c\)"):
        run.check_manifest(found())
    for split in ("train", "test"):
        (tmp_path / split / "c").rename(tmp_path / split / "b")
    shutil.copytree(tmp_path / "test", tmp_path / "val")
    with pytest.raises(UserError, match="there are val images, which .* began without"):
        run.check_manifest(found())
    shutil.rmtree(tmp_path / "val")
    shutil.move(tmp_path / "train", tmp_path / "elsewhere/train")
    shutil.move(tmp_path / "test", tmp_path / "elsewhere/test")
    config = config.replaced(root=str(tmp_path / "elsewhere"))
    run.check_manifest(found())  # the same images in another place


def test_manifests_of_images_on_disk_by_name_alone_still_fit(tmp_path, write_images):
    for split in ("train", "test"):
        write_images(tmp_path / split, ["a/1.png", "b/1.png"], size=72)
    config = config_of(dataset="folder", root=str(tmp_path), image_size=72)
    now = manifest(load_data(config), config)
    older = copy.deepcopy(now)
    for split in older["splits"].values():
        split["sha256"] = split.pop("names_sha256")
    del older["ranges"]
    run = Run.create(tmp_path / "run", config, older, "train")
    run.check_manifest(now)
    assert run.ranges() == {}
    now["splits"]["test"]["names_sha256"] = "another"
    with pytest.raises(UserError, match="the test images differ"):
        run.check_manifest(now)


@pytest.mark.parametrize(
    ("size", "augmentation", "resize"),
    [
        (64, "crop-flip", "squash"),
        (65, "crop-flip", "squash"),
        (224, "imagenet", "short-side-crop"),
        (224, "none", "short-side-crop"),
    ],
)
def test_runs_from_before_there_was_a_rule_keep_that_of_their_training(
    tmp_path, size, augmentation, resize
):
    run = Run(tmp_path)
    save_config(config_of(image_size=size, augmentation=augmentation), tmp_path / "config.yaml")
    lines = (tmp_path / "config.yaml").read_text().splitlines()
    older = [line for line in lines if not line.startswith("resize:")]
    (tmp_path / "config.yaml").write_text("\n".join(older))
    assert run.config().of(DataOptions).resize == resize
