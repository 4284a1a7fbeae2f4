"""Which images linear probes train on."""

import hashlib

import numpy as np
import pytest
from conftest import tiny_config

from ltvr.data.datasets import load_data
from ltvr.data.options import DataOptions
from ltvr.probes import images
from ltvr.probes.images import contents, probe_images, usual_number


def test_images_that_were_left_out_come_first_and_no_judged_one():
    config = tiny_config()
    data = load_data(config)
    found = probe_images(config, data, 40)
    assert np.bincount(found.split.labels).tolist() == [40] * 10
    own, train, judged = (contents(each) for each in (found.split, data.train, data.test))
    assert len(set(own)) == len(own) and not set(own) & set(judged)
    again = np.bincount(found.split.labels[[each in train for each in own]], minlength=10)
    assert again.tolist() == found.seen.tolist()
    # Of each class there are as many as are left out, and only then its training images.
    everything = np.bincount(load_data(config.replaced(imbalance=1.0)).train.labels)
    left_out = everything - data.counts
    assert (again == np.maximum(40 - left_out, 0)).all() and again[0] > 30 and not again[5:].any()
    assert contents(probe_images(config, data, 40).split) == own


@pytest.mark.parametrize("source", ["train", "left-out"])
def test_of_a_run_with_a_hold_out_no_held_image_and_no_test_set(source, monkeypatch):
    config = tiny_config(holdout=20, holdout_from=source)
    data = load_data(config)
    read = []
    monkeypatch.setattr(
        images, "load_data", lambda config: read.append(config) or load_data(config)
    )
    found = probe_images(config, data, 500)
    number = np.bincount(found.split.labels, minlength=10)
    own, held = contents(found.split), contents(data.test)
    assert len(set(own)) == len(own) and not set(own) & set(held)
    # As many of each as of the class of which there are fewest beside the held ones, and the one
    # image that is held of each class as the data set is read.
    everything = np.bincount(load_data(tiny_config(imbalance=1.0)).train.labels)
    spared = everything - np.bincount(data.test.labels, minlength=10)
    assert len(set(number.tolist())) == 1 and spared.min() - 1 <= number[0] <= spared.min()
    assert [config.of(DataOptions).judged_on for config in read] == ["hold-out"]


def test_training_images_where_none_are_left_out(tmp_path, write_images):
    for split, numbers in (("train", (9, 4, 2)), ("test", (3, 3, 3))):
        names = [f"{k}/{i}.png" for k, number in enumerate(numbers) for i in range(number)]
        write_images(tmp_path / split, names, seed=len(split))
    config = tiny_config(
        dataset="folder", root=str(tmp_path), imbalance=1.0, many_above=5, few_below=3
    )
    data = load_data(config)
    found = probe_images(config, data, 5)
    assert np.bincount(found.split.labels).tolist() == [5, 4, 2] == found.seen.tolist()
    assert set(contents(found.split)) < set(contents(data.train))
    image = data.train.images[0].numpy().tobytes()
    assert contents(data.train)[0] == hashlib.sha256(image).hexdigest()


@pytest.mark.parametrize(("classes", "number"), [(10, 500), (100, 100), (20_000, 1)])
def test_usual_number(classes, number):
    assert usual_number(classes) == number
