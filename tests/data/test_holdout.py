"""Hold-outs: disjoint from what trains and from one another, and never the test set."""

import shutil

import numpy as np
import pytest
import torch
from conftest import config_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ltvr.config.command_line import refuse_unused
from ltvr.data.datasets import load_data, stub_data
from ltvr.data.holdout import described, part_of_each_class
from ltvr.data.longtail import imagenet_lt_counts, longtail_counts
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.errors import UserError

CPU = torch.device("cpu")


def digits(**options):
    return config_of(**{"image_size": 16, "imbalance": 20.0, **options})


def of_class(data):
    """Images of each class in the hold-out."""
    return np.bincount(data.test.labels, minlength=len(data.classes)).tolist()


# ---- a part of each class ----


def test_as_many_of_each_class_as_it_can_spare():
    labels = np.repeat(np.arange(5), [100, 41, 40, 5, 1])
    held = part_of_each_class(labels, 20, seed=0)
    assert np.bincount(labels[held], minlength=5).tolist() == [20, 20, 20, 2, 0]
    assert len(set(held)) == len(held) and (np.diff(held) > 0).all()
    assert held.tolist() == part_of_each_class(labels, 20, seed=0).tolist()
    assert held.tolist() != part_of_each_class(labels, 20, seed=1).tolist()
    whole = part_of_each_class(labels, [30, 20, 10, 9, 9], seed=0, at_most_half=False)
    assert np.bincount(labels[whole]).tolist() == [30, 20, 10, 5, 1]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    per_class=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
    folds=st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 8), min_size=2, max_size=4),
    half=st.booleans(),
)
def test_folds_are_of_the_same_size_and_disjoint_as_long_as_images_last(
    counts, per_class, seed, folds, half
):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = {
        f: part_of_each_class(labels, per_class, seed, fold=f, at_most_half=half) for f in folds
    }
    for k, n in enumerate(counts):
        number = min(per_class, n // 2 if half else n)
        own = {f: {int(i) for i in part if labels[i] == k} for f, part in parts.items()}
        assert all(len(each) == number for each in own.values())
        last = [f for f in own if (f + 1) * number <= n]
        assert len(set().union(*(own[f] for f in last))) == number * len(last)
    everything = [
        part_of_each_class(labels, 1, seed, fold=f, at_most_half=False) for f in range(30)
    ]
    assert set(np.concatenate(everything)) == set(range(len(labels)))


# ---- of the training images ----


@pytest.mark.parametrize("options", [{"holdout": 10}, {"holdout": 7, "holdout_fold": 3}])
def test_a_run_trains_on_exactly_the_rest_of_its_subset(options):
    subset, data = load_data(digits()), load_data(digits(**options))
    number = [min(int(options["holdout"]), n // 2) for n in subset.counts]
    assert of_class(data) == number
    assert data.counts.tolist() == (subset.counts - number).tolist()
    train, held, all_of_it = (s.indices.tolist() for s in (data.train, data.test, subset.train))
    assert sorted(train + held) == sorted(all_of_it)
    assert train == [i for i in all_of_it if i not in set(held)]  # in the same order
    assert data.left_out == subset.left_out
    at = {i: row for row, i in enumerate(all_of_it)}
    assert torch.equal(data.test.images, subset.train.images[[at[i] for i in held]])
    assert not set(held) & set(subset.test.indices.tolist())


def test_a_share_is_spread_alike_over_the_classes():
    subset = load_data(digits())
    wanted = round(0.2 * len(subset.train) / 10)
    assert of_class(load_data(digits(holdout=0.2))) == [
        min(wanted, n // 2) for n in subset.counts.tolist()
    ]
    assert set(of_class(load_data(digits(holdout=1e-6)))) == {1}
    left_out = load_data(digits(holdout=0.01, holdout_from="left-out"))
    assert of_class(left_out) == [round(0.01 * subset.left_out / 10)] * 10


def test_the_hold_out_is_by_the_data_seed_alone_and_folds_are_apart():
    def held(**options):
        return set(load_data(config_of(image_size=16, **options)).test.indices.tolist())

    first = held(holdout=20)
    assert first == held(holdout=20, seed=5) != held(holdout=20, data_seed=1)
    folds = [held(holdout=20, holdout_fold=f) for f in range(6)]  # 6 x 20 of 124 and more
    assert folds[0] == first and len(set().union(*folds)) == 6 * 200


# ---- of what the subset leaves out ----


def test_what_the_subset_leaves_out_and_of_classes_that_lack_it_training_images():
    subset, data = load_data(digits()), load_data(digits(holdout=10, holdout_from="left-out"))
    assert of_class(data) == [10] * 10
    whole = load_data(digits(imbalance=1.0)).counts - subset.counts
    given_up = np.maximum(10 - whole, 0)  # by the largest class, of which nothing is left out
    assert given_up.tolist() == [10] + [0] * 9
    assert data.counts.tolist() == (subset.counts - given_up).tolist()
    train, kept = set(data.train.indices.tolist()), set(subset.train.indices.tolist())
    held = set(data.test.indices.tolist())
    assert not train & held and train | (held & kept) == kept and len(held & kept) == 10
    other = load_data(digits(holdout=10, holdout_from="left-out", holdout_fold=1))
    assert not held & set(other.test.indices.tolist())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"holdout": 65, "holdout_from": "left-out"}, "class '0' has 64 images .* lower --holdout"),
        ({"holdout": 1, "holdout_from": "left-out", "imbalance": 1.0}, "none is left out; take"),
        ({"holdout": 1, "holdout_from": "val"}, "digits has no validation split here; take"),
        ({"holdout": 2.5}, "holdout = 2.5: expected a whole number .* or a share below 1"),
        ({"holdout": -1}, "expected at least 0"),
    ],
)
def test_what_cannot_be_held_out_is_refused(options, words):
    with pytest.raises(UserError, match=words) as error:
        load_data(digits(**options))
    assert "\n" not in str(error.value)


# ---- of files ----


@pytest.fixture
def folder(tmp_path, write_images):
    """A folder of training images alone: there is no test set yet."""
    names = [f"train/{k}/{i}.png" for k, n in (("a", 9), ("b", 5), ("c", 1)) for i in range(n)]
    write_images(tmp_path, names, size=9)
    return tmp_path


@pytest.mark.parametrize("size", [8, 72])
def test_a_folder_needs_no_test_set_and_does_not_read_a_broken_one(folder, size):
    config = config_of(dataset="folder", root=str(folder), image_size=size, holdout=3)
    data = load_data(config)
    assert data.counts.tolist() == [6, 3, 1] and of_class(data) == [3, 2, 0]
    assert not set(data.train.paths) & set(data.test.paths)
    assert data.notes[-1].startswith("judged on a hold-out of 5 images of the training set, never")
    for broken in ("test/a/1.png", "test/unknown/1.png"):
        (folder / broken).parent.mkdir(parents=True)
        (folder / broken).write_bytes(b"no picture")
    again = load_data(config)
    assert manifest(again, config) == manifest(data, config)
    with pytest.raises(UserError):
        load_data(config.replaced(holdout=0))
    shutil.rmtree(folder / "test")
    with pytest.raises(
        UserError, match=r"test is missing; .* \(or, without a test set, --holdout\)"
    ):
        load_data(config.replaced(holdout=0))


def test_the_validation_split_in_place_of_the_test_set(folder, write_images):
    names = [f"val/{k}/{i}.png" for k, n in (("a", 4), ("b", 2), ("c", 2)) for i in range(n)]
    write_images(folder, names, size=9)
    config = config_of(dataset="folder", root=str(folder), image_size=8, holdout=3)
    beside = load_data(config)
    assert len(beside.val) == 8 and of_class(beside) == [3, 2, 0]
    data = load_data(config.replaced(holdout_from="val"))
    assert data.val is None and of_class(data) == [3, 2, 2]
    assert data.counts.tolist() == [9, 5, 1]
    assert all("val" in path.parts for path in data.test.paths)
    assert len(load_data(config.replaced(holdout_from="val", holdout=100)).test) == 8


def test_lists_are_read_without_that_of_the_test_images(tmp_path, write_images):
    names = [f"{k}{i}.png" for k in range(2) for i in range(6)]
    write_images(tmp_path, names)
    lines = "".join(f"{name} {name[0]}\n" for name in names)
    (tmp_path / "iNaturalist18_train.txt").write_text(lines)
    config = config_of(dataset="inaturalist18", root=str(tmp_path), image_size=8, holdout=2)
    assert of_class(load_data(config)) == [2, 2]
    assert stub_data(config, CPU).counts.tolist() == [4, 4]
    with pytest.raises(UserError, match=r"iNaturalist18_val\.txt"):
        load_data(config.replaced(holdout=0))


@pytest.mark.parametrize("size", [8, 72])
def test_an_image_of_another_kind_than_those_that_train_is_refused(folder, size):
    """Of 16 bits: what is black and what is white is known of training images alone."""
    from PIL import Image

    for i in range(9):  # the hold-out takes one of the class, whichever it is
        Image.fromarray(np.full((9, 9), 500 + i, np.uint16)).save(folder / f"train/a/{i}.png")
    config = config_of(dataset="folder", root=str(folder), image_size=size, holdout=1)
    assert load_data(config).ranges  # 16 bits on both sides
    held = load_data(config).test.paths[0]
    for i in range(9):
        if held.name != f"{i}.png":
            shutil.copy(folder / "train/b/0.png", folder / f"train/a/{i}.png")
    with pytest.raises(UserError, match=f"a/{held.name} has values of type uint16"):
        load_data(config)


# ---- what is said of it ----


@pytest.mark.parametrize(
    "options",
    [
        {"dataset": "cifar100", "imbalance": 50},
        {"dataset": "cifar10", "imbalance": 100, "imbalance_type": "step"},
        {"dataset": "imagenet-lt"},
    ],
)
def test_stubs_agree_on_what_is_held_out(options):
    config = config_of(**options, holdout=20)
    whole, stub = stub_data(config.replaced(holdout=0), CPU), stub_data(config, CPU)
    held = np.minimum(20, whole.counts // 2)
    assert of_class(stub) == held.tolist()
    assert stub.counts.tolist() == (whole.counts - held).tolist()
    assert "judged on a hold-out" in stub.notes[-1]


def test_stubs_of_other_places():
    config = config_of(dataset="cifar10", imbalance=100, holdout=100, holdout_from="left-out")
    counts = longtail_counts(5000, 10, 100)
    assert stub_data(config, CPU).counts.tolist() == [4900, *counts[1:]]
    assert of_class(stub_data(config, CPU)) == [100] * 10
    config = config_of(dataset="imagenet-lt", holdout=20, holdout_from="val")
    stub = stub_data(config, CPU)
    assert stub.counts.tolist() == list(imagenet_lt_counts())
    assert stub.val is None and len(stub.test) == 20_000


def test_the_manifest_says_how_it_was_made():
    config = digits(holdout=10, holdout_fold=2)
    data = load_data(config)
    found, plain = manifest(data, config), manifest(load_data(digits()), digits())
    assert found["splits"].keys() == {"train", "hold-out"} and "holdout" not in plain
    assert plain["splits"].keys() == {"train", "test"}
    held = {"holdout": 10.0, "holdout_from": "train", "holdout_fold": 2, "counts": of_class(data)}
    assert found["holdout"] == held
    assert found["splits"]["hold-out"]["indices"] == data.test.indices.tolist()
    assert found["train_counts"] == data.counts.tolist()
    options = config.of(DataOptions)
    assert described(options, held["counts"]).endswith(
        "(holdout 10 from train, fold 2, data seed 0: 3 to 10 of each class)"
    )


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, False),
        ({"holdout": 5}, True),
        ({"imbalance": 20}, True),
        ({"holdout": 5, "imbalance": 20}, True),
    ],
)
def test_the_data_seed_counts_where_something_is_drawn_by_it(options, counts):
    config = config_of(data_seed=3, **options)
    assert ("data_seed" in config.effective()) == counts
    if counts:
        refuse_unused(config, ["data_seed"])
        return
    words = r"--data-seed changes nothing with imbalance = 1.0 and holdout = 0.0; .* --imbalance or"
    with pytest.raises(UserError, match=words):
        refuse_unused(config, ["data_seed"])
