"""Which trunks the runs of a rung fork from, of those that are there."""

import json
import shutil
from pathlib import Path

import pytest

from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.settings import save_config
from ltvr.sweeping.configurations import Design
from ltvr.sweeping.file import read
from ltvr.sweeping.results import Results
from ltvr.sweeping.sharing import jobs_of

FILE = """
preset: imagenet-lt
options: {dataset: folder, imbalance: 1, holdout: 1, epochs: 4, select: last}
arms: {early: {lay_back_start: 0.5}, late: {lay_back_start: 0.75}}
"""


def jobs(tmp_path: Path, root: Path):
    (tmp_path / "file.yaml").write_text(FILE)
    design = Design.of(read(tmp_path / "file.yaml", {"root": str(root)}))
    return jobs_of(Results(design, tmp_path / "runs").rungs()[0])


@pytest.mark.parametrize(
    ("root", "same"), [("here", True), ("copy", True), ("changed", False), ("nowhere", False)]
)
def test_a_trunk_of_other_images_is_none(root, same, tmp_path, write_images):
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]
    write_images(tmp_path / "here" / "train", names)
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    write_images(tmp_path / "changed" / "train", names, seed=1)
    trunk, *_ = jobs(tmp_path, tmp_path / "here")
    assert trunk.stop_after == 2
    there = trunk.folder.with_name("epoch2-before-seed0")
    there.mkdir(parents=True)
    save_config(trunk.config, there / "config.yaml")
    read_from_here = manifest(load_data(trunk.config), trunk.config)
    (there / "manifest.json").write_text(json.dumps(read_from_here))
    (there / "last.pt").touch()
    found, *forks = jobs(tmp_path, tmp_path / root)
    assert (found.folder == there) == same
    assert all(fork.fork is found for fork in forks)
