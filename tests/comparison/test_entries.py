"""Which runs may be compared, what differs between them, and which are one configuration."""

import json
import shutil

import pytest
from conftest import tiny_config

from ltvr.comparison.entries import check_comparable, differences, grouped, read_entry
from ltvr.errors import UserError
from ltvr.settings import save_config


@pytest.fixture
def of(finished, tmp_path):
    """A copy of a run with other options, and other lines of its manifest."""

    def make(name, *, manifest=None, **options):
        folder = shutil.copytree(finished, tmp_path / name)
        save_config(tiny_config(**options), folder / "config.yaml")
        if manifest is not None:
            path = folder / "manifest.json"
            value = json.loads(path.read_text())
            manifest(value)
            path.write_text(json.dumps(value))
        return read_entry(folder)

    return make


def test_only_what_differs_and_is_in_use(of):
    entries = [
        of("a", seed=1, root="here", workers=0, focal_gamma=3.0),
        of("b", seed=2, root="there", workers=2, milestones=(0.5, 0.75), lr_decay=0.2),
        of("c", seed=2, method="baseline", mask_mean=0.25, loss="focal", compile=True),
    ]
    found = differences(entries)
    assert found["seed"] == ["1", "2", "2"]
    assert found["milestones"] == ["none", "0.5 0.75", "none"]
    assert found["lr_decay"] == ["not in use", "0.2", "not in use"]  # idle without milestones
    assert found["decomposition"] == ["afa", "afa", "none"]
    assert found["gamma"][2] == found["mask_mean"][2] == "not in use"
    assert found["compile"] == ["false", "false", "true"]
    assert found["loss"] == ["cross-entropy", "cross-entropy", "focal"]
    assert found["focal_gamma"] == ["not in use", "not in use", "2"]
    assert not {"root", "workers", "epochs"} & set(found)
    assert differences(entries[:1]) == {}


def test_how_often_is_evaluated_differs_where_the_best_is_reported(of):
    for select, found in (("last", {}), ("best", {"evaluate_every": ["1", "2"]})):
        pair = [of(f"{select}{n}", select=select, evaluate_every=n) for n in (1, 2)]
        assert differences(pair) == found


def test_runs_that_differ_in_their_seed_alone_are_one_configuration(of):
    entries = [
        of("a1", seed=1),
        of("b0", method="baseline"),
        of("a0", seed=0, root="elsewhere", workers=0, device="auto"),
        of("c0", gamma=0.5),
        of("again", seed=1),
        of("others", manifest=lambda m: m["splits"]["train"].update(sha256="0")),
    ]
    groups = grouped(entries)
    assert [[e.run.folder.name for e in group.entries] for group in groups] == [
        ["a0", "a1"],
        ["b0"],
        ["c0"],
        ["again"],
        ["others"],
    ]
    assert [group.label for group in groups[1:4]] == [
        "baseline",
        "ltvr, gamma 0.5",
        "again",  # the same configuration twice
    ]
    labels = [group.label for group in grouped(entries[:4])]
    assert labels == ["ltvr, gamma 1", "baseline", "ltvr, gamma 0.5"]
    assert grouped(entries[:2])[0].label == "ltvr"


def test_runs_of_other_features_are_other_configurations(of):
    """Seeds of one source's options are one, whatever features' options their own files say."""

    def source(**options):
        told = {"lr": 0.2, "seed": 0, "milestones": [], **options} if options else {}
        record = {"file": "f.pt", "sha256": "0" * 64} | ({"options": told} if told else {})
        return lambda manifest: manifest.update(source=record)

    stages = ("crt",)
    entries = [
        of("a", stages=stages, manifest=source(seed=0)),
        of("b", stages=stages, manifest=source(seed=1), seed=1),
        of("c", stages=stages, manifest=source(lr=0.05), seed=2),
        of("d", stages=stages, manifest=source(), seed=3),  # of an older version
    ]
    groups = grouped(entries)
    assert [[e.run.name for e in group.entries] for group in groups] == [["a", "b"], ["c"], ["d"]]
    assert differences(entries[:3])["from.lr"] == ["0.2", "0.2", "0.05"]
    assert differences(entries[2:])["from.features"] == ["not in use", "0" * 12]


def test_labels_of_configurations_that_differ_in_much_are_their_folders(of):
    other = of("b", gamma=0.5, alpha=2.0, loss_weight=1.0, mask_mean=0.25)
    assert [group.label for group in grouped([of("a"), other])] == ["a", "b"]


def renamed(manifest):
    manifest["classes"][3] = "three\n"


def swapped(manifest):
    manifest["classes"][:2] = manifest["classes"][1::-1]


def other_test(manifest):
    manifest["splits"]["test"]["sha256"] = "0"


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (renamed, {}, r"b has other classes than .*a \(10 and 10, first '3'\); leave it out"),
        (swapped, {}, "b has other classes than .* in another order"),
        (other_test, {}, r"b has other test images than .*a \(sha256\); leave it out"),
        (other_test, {"image_size": 48}, r"\(image_size differ, and the digest of small images"),
    ],
)
def test_runs_that_are_not_comparable_are_refused_by_name(change, options, words, of):
    first, other = of("a"), of("b", manifest=change, **options)
    with pytest.raises(UserError, match=words) as error:
        check_comparable(first, other)
    assert "\n" not in str(error.value)


def test_other_training_images_are_said(of):
    def fewer(manifest):
        manifest["splits"]["train"]["sha256"] = "0"
        manifest["train_counts"] = [100] * 9 + [50]

    first = of("a")
    assert check_comparable(first, of("same", seed=4)) == []
    (line,) = check_comparable(first, of("b", manifest=fewer))
    assert "b was trained on other images than" in line
    assert line.endswith("950 images, 2.0 : 1, against 404 images, 32.0 : 1")


def test_images_of_a_manifest_of_0_1_are_known_by_their_names(of):
    """There the sha256 of files was of their names, which is kept beside that of the contents."""
    old = of("old", manifest=lambda m: m["splits"]["test"].update(sha256="names"))
    new = of(
        "new",
        manifest=lambda m: m["splits"]["test"].update(sha256="contents", names_sha256="names"),
    )
    assert old.run.same_images(new.run, "test") and new.run.same_images(old.run, "test")
    assert not old.run.same_images(new.run, "val")


def test_what_is_no_run(finished, tmp_path):
    with pytest.raises(UserError, match=r"final.pt is a checkpoint; name the run folder"):
        read_entry(finished / "final.pt")
    with pytest.raises(UserError, match="is no run"):
        read_entry(tmp_path)
