"""The protocol check, line by line: what was found, and whether it compares."""

import pytest
from conftest import summary, tiny_config

import ltvr.training
from ltvr.data.longtail import imagenet_lt_counts, longtail_counts
from ltvr.data.options import DataOptions
from ltvr.reports.protocol import field_subset, findings
from ltvr.runs.folder import Run
from ltvr.settings import load_config

CIFAR10 = longtail_counts(5000, 10, 100)
ACCURACY = {kind: {"all": at} for at, kind in ((61.15, "running"), (69.39, "real"))}


def check(line, preset="cifar10-ir100-resnet32", counts=CIFAR10, metrics=None, **options):
    """One line of the check of a run."""
    config = load_config(preset, options.pop("method", None), options)
    described = {"train_counts": counts, "holdout": {"counts": [100] * len(counts)}}
    lines = findings(config, described, metrics or {"features": {}, "crt": {}})
    names = ["selection", "learning rate", "training subset", "BatchNorm", "augmentation"]
    names = (["images"] if config.of(DataOptions).holdout else []) + names
    assert [each.check for each in lines] == names
    return lines[names.index(line)]


def test_a_run_by_the_recipe_compares_in_everything_that_is_known():
    for line in ("selection", "learning rate", "training subset", "augmentation"):
        assert check(line).comparable is True
    imagenet = {"preset": "imagenet-lt", "counts": list(imagenet_lt_counts()), "root": "x"}
    for line in ("learning rate", "training subset", "augmentation"):
        assert check(line, **imagenet).comparable is True


@pytest.mark.parametrize(
    ("on", "words", "comparable"),
    [
        (None, "features: the last epoch; cRT: the last epoch", True),
        ("val", "cRT: the best epoch on val images", True),
        ("test", "cRT: the best epoch on test images. Chosen on the test set: optimistic", False),
        ("test and val", "Chosen on the test set", False),
        ("hold-out", "Chosen on the images that it is judged on: optimistic", False),
    ],
)
def test_selection(on, words, comparable):
    metrics = {"features": {"selected_on": None}, "crt": {"selected_on": on}}
    line = check("selection", metrics=metrics)
    assert words in line.found and line.comparable is comparable


@pytest.mark.parametrize(
    ("source", "split"), [("train", "training set"), ("left-out", "training set"), ("val", "valid")]
)
def test_a_run_with_a_hold_out_does_not_compare(source, split):
    line = check("images", holdout=100, holdout_from=source, holdout_fold=3)
    assert line.found.startswith(f"judged on a hold-out of 1000 images of the {split}")
    assert f"never on the test set (holdout 100 from {source}, fold 3, data" in line.found
    assert line.comparable is False


@pytest.mark.parametrize(
    ("options", "words", "comparable"),
    [
        ({}, "features 0.1, cRT 0.1 at 128 images a step", True),
        ({"batch_size": 64}, "features 0.05, cRT 0.05 at 64", True),
        (
            {"batch_size": 64, "lr_batch": 0},
            "at 64 images a step; at 512 that is features 0.8, cRT 0.8",
            False,
        ),
        ({"crt_lr": 0.05}, "features 0.1, cRT 0.05 at 128 images a step", True),
        ({"crt_lr": 0.3}, "at 512 that is cRT 1.2", False),
        ({"stages": "features", "epochs": 0}, "nothing is trained", True),
        ({"preset": "cifar10-ir100-cpu"}, "at 512 that is features 0.6", False),
    ],
)
def test_learning_rate(options, words, comparable):
    line = check("learning rate", **options)
    assert words in line.found and line.comparable is comparable
    assert line.field == "0.2 at 512 or 0.1 at 128, in proportion to the batch"


@pytest.mark.parametrize(
    ("counts", "options", "words", "comparable"),
    [
        (CIFAR10, {}, "12406 images in the class counts of CIFAR-10-LT, imbalance 100", True),
        (CIFAR10, {"data_seed": 1}, "drawn with data seed 1", False),
        (CIFAR10[::-1], {}, "not a subset the field knows", False),
        ([5000] * 10, {"imbalance": 1}, "50000 images: not a subset the field knows", False),
        (CIFAR10, {"dataset": "folder", "root": "x"}, "from a folder", True),
        ([7, 5, 3], {"dataset": "folder", "imbalance": 1}, "15 images: not a subset", None),
        ([7, 5, 3], {"dataset": "places-lt", "imbalance": 1}, "lists of places-lt", None),
        ([7, 5, 3], {"dataset": "imagenet-lt", "imbalance": 1}, "not a subset", False),
    ],
)
def test_training_subset(counts, options, words, comparable):
    line = check("training subset", counts=counts, **options)
    assert words in line.found and line.comparable is comparable


def test_the_fields_subsets_are_known_by_their_counts():
    assert field_subset(longtail_counts(500, 100, 50)) == "CIFAR-100-LT, imbalance 50"
    assert field_subset([5000] * 5 + [500] * 5) == "CIFAR-10-LT, imbalance 10, step"
    assert field_subset(longtail_counts(5000, 10, 30)) is None
    counts = imagenet_lt_counts()
    assert (len(counts), sum(counts), max(counts), min(counts)) == (1000, 115_846, 1280, 5)
    assert field_subset(counts) == "ImageNet-LT" and field_subset(counts[1:]) is None


def test_batchnorm():
    values = {"images": 5000, "reported": "running", "accuracy": ACCURACY}
    line = check("BatchNorm", metrics={"features": {"batchnorm": values}, "crt": {}})
    assert "features: running 61.15, real 69.39, reported running" in line.found
    assert "5000 images" in line.found and line.comparable is True
    others = {"features": {"batchnorm": values | {"reported": "settled"}}}
    assert check("BatchNorm", metrics=others).comparable is False
    kept = values | {"reported": "kept"}  # as MiSLAS's code does on CIFAR-10, and cRT's does not
    for stage in ("mislas", "crt"):
        line = check(
            "BatchNorm", metrics={"features": {"batchnorm": values}, stage: {"batchnorm": kept}}
        )
        assert line.comparable is (stage == "mislas")
    line = check("BatchNorm", metrics={"features": {"batchnorm": None}})
    assert (line.found, line.comparable) == ("the network has none", True)
    line = check("BatchNorm")
    assert line.found.startswith("not measured") and line.comparable is None


@pytest.mark.parametrize(
    ("options", "words", "comparable"),
    [
        ({}, "crop-flip, zero padding 4, 32 pixels", True),
        ({"method": "mixup"}, "mixing beyond the recipe: mixup", False),
        ({"crop_padding": 2}, "zero padding 2", False),
        ({"augmentation": "none"}, "none, 32 pixels", False),
        ({"image_size": 64}, "64 pixels", False),
        ({"dataset": "folder", "counts": [9, 8]}, "crop-flip", None),
        ({"dataset": "folder"}, "crop-flip", True),  # of CIFAR-10-LT's counts
        ({"preset": "imagenet-lt", "augmentation": "crop-flip"}, "224 pixels", False),
        ({"preset": "digits", "counts": [9, 8]}, "crop, zero padding 1, 16 pixels", None),
    ],
)
def test_augmentation(options, words, comparable):
    line = check("augmentation", **options)
    assert words in line.found and line.comparable is comparable


def test_it_is_in_the_summary_and_on_the_page_and_changes_nothing_else(finished, tmp_path):
    ltvr.training.train(tiny_config(batchnorm_images=5000), tmp_path / "run")
    run, described = Run(tmp_path / "run"), summary(tmp_path / "run")
    measured = {name: values.pop("batchnorm") for name, values in described["metrics"].items()}
    assert described["metrics"] == summary(finished)["metrics"]
    lines = findings(run.config(), run.manifest(), run.read_summary()["metrics"])
    assert described["protocol"] == [each._asdict() for each in lines]
    page = run.report.read_text()
    assert "<h2>Protocol</h2>" in page and "<td>the last epoch" not in page
    for stage in ("features", "crt"):
        assert measured[stage]["reported"] == "running"
        reported = described["metrics"][stage]["all"]
        assert measured[stage]["accuracy"]["running"]["all"] == reported
        assert f"running {reported:.2f}, real" in page
