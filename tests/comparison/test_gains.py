"""Gains over seeds and over images: the numbers are those of the runs."""

import json
import shutil

import numpy as np
import pytest
from conftest import summary, tiny_config

from ltvr.comparison.entries import grouped, read_entry
from ltvr.comparison.gains import gains_over
from ltvr.comparison.paired import over_images, over_seeds
from ltvr.data.datasets import load_data
from ltvr.settings import save_config

COUNTS = [128, 95, 68, 48, 35, 25, 18, 13, 9, 6]
"""Two many, five medium and three few of a training set that test runs are said to have."""


@pytest.fixture
def of(finished, tmp_path):
    """A copy of a run that says it had these options, and got these accuracies by class."""

    def make(name, per_class=None, stages=("features", "crt"), **options):
        folder = shutil.copytree(finished, tmp_path / name)
        config = tiny_config(stages=stages, many_above=90, few_below=15, **options)
        save_config(config, folder / "config.yaml")
        changed = summary(folder)
        metrics = changed["metrics"]["crt"]
        if per_class is not None:
            metrics["per_class"] = per_class
            metrics["all"] = float(np.mean([p for p in per_class if p is not None]))
        changed["metrics"] = dict.fromkeys(stages, metrics)
        (folder / "summary.json").write_text(json.dumps(changed))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["train_counts"] = COUNTS
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return read_entry(folder)

    return make


class Given:
    """Stands for the images: what each run is said to have right, by its folder."""

    def __init__(self, labels, **correct):
        self.labels, self.found = np.array(labels), correct
        self.asked = []

    def correct(self, entry, stage):
        self.asked.append((entry.run.folder.name, stage))
        return np.array(self.found[entry.run.folder.name], bool), self.labels


def test_two_seeds_of_two_configurations_are_paired_by_seed(of):
    before = {
        0: [90.0, 80.0, *[60.0] * 5, 20.0, 10.0, None],
        1: [92.0, 82.0, *[62.0] * 5, 30, 20, None],
    }
    after = {
        0: [91.0, 80.0, *[61.0] * 5, 40.0, 20.0, None],
        1: [90.0, 84.0, *[65.0] * 5, 40, 40, None],
    }
    entries = [of(f"b{s}", before[s], method="baseline", seed=s + 5) for s in (1, 0)]
    entries += [of(f"a{s}", after[s], seed=s + 5) for s in (0, 1)]
    entries += [of("a2", after[0], seed=2)]  # which the baseline has not
    first, other = grouped(entries)
    features, crt = gains_over(first, other, Given([]))
    assert (features.stages, crt.stages) == (("features", "features"), ("crt", "crt"))
    assert (crt.over, crt.number) == ("seeds", 2)
    assert [(b.run.folder.name, a.run.folder.name) for b, a in crt.pairs] == [
        ("b0", "a0"),
        ("b1", "a1"),
    ]
    many = crt.shots["many"]  # of classes 0 and 1
    assert (many.before, many.after) == (86.0, 86.25)
    assert (many.gain, many.half, many.p) == over_seeds([85.0, 87.0], [85.5, 87.0])
    few = crt.shots["few"]
    assert (few.before, few.after) == (np.mean([15, 25]), np.mean([30, 40]))
    assert few.half is None and few.p is None and few.gain == 15.0  # both seeds gain the same
    assert crt.classes[9] == (None,) * 7
    raw = [
        over_seeds([before[s][k] for s in (0, 1)], [after[s][k] for s in (0, 1)]) for k in range(9)
    ]
    assert [row.gain for row in crt.classes[:9]] == [test.gain for test in raw]
    tested = [test.p for test in raw if test.p is not None]
    smallest = min(tested)
    assert crt.classes[[t.p for t in raw].index(smallest)].p == min(1.0, len(tested) * smallest)


def test_one_run_each_is_tested_over_the_images(of):
    labels = [0] * 4 + [7] * 6 + [8] * 2
    images = Given(
        labels,
        b=[1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0],
        a=[1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0],
    )
    first, other = grouped([of("b", method="baseline"), of("a")])
    features, crt = gains_over(first, other, images)
    assert images.asked == [(name, s) for s in ("features", "crt") for name in "ba"]
    assert (crt.over, crt.number) == ("images", 12)
    everything = crt.shots["all"]
    assert (everything.won, everything.lost) == (6, 1)
    assert everything.p == 16 / 128  # (1 + 7) of 2^7 tosses at either end
    assert everything.gain == pytest.approx(100 * 5 / 12)
    assert everything.before == pytest.approx(100 * 5 / 12)
    few = crt.shots["few"]  # classes 7 and 8: the mean of 0 and 50, and of 100 and 50
    assert (few.before, few.after, few.gain) == (25.0, 75.0, 50.0)
    assert (few.won, few.lost, few.p) == (6, 0, 2 / 64)
    assert crt.shots["medium"].gain is None and crt.shots["medium"].p is None
    assert (crt.classes[7].before, crt.classes[7].gain) == (0.0, 100.0)
    assert crt.classes[7].p == pytest.approx(3 / 32)  # Holm: times the three classes that have one
    assert crt.classes[0].p == crt.classes[8].p == 1.0 and crt.classes[1].before is None


def test_seeds_that_are_not_shared_and_images_that_are_left_out(of):
    first, other = grouped(
        [of("b0", method="baseline", seed=0), of("a1", seed=1), of("a2", seed=2)]
    )
    images = Given([0], b0=[1], a1=[1])
    assert {gain.over for gain in gains_over(first, other, images)} == {"images"}
    gain = gains_over(first, other, None)[-1]
    assert gain.over == "nothing" and gain.shots["all"].p is None
    assert gain.shots["all"].gain == 0.0


def test_stages_that_differ_are_compared_by_their_last(of):
    whole, alone = of("b", method="baseline"), of("a", stages=("features",))
    first, other = grouped([whole, alone])
    stages = [gain.stages for gain in gains_over(first, other, None)]
    assert stages == [("features", "features"), ("crt", "features")]


def test_a_run_that_is_not_finished_gains_nothing(of):
    entry = of("a")
    entry.run.summary.unlink()
    first, other = grouped([of("b", method="baseline"), read_entry(entry.run.folder)])
    assert gains_over(first, other, None) == [] == gains_over(other, first, None)


def test_images_are_classified_as_the_summary_says(finished):
    from ltvr.comparison.images import Images
    from ltvr.engine.source import Source

    entry, images = read_entry(finished), Images(Source(), "cpu")
    test = load_data(tiny_config()).test
    for stage in ("features", "crt"):
        correct, labels = images.correct(entry, stage)
        assert labels.tolist() == test.labels.tolist()
        assert correct.mean() * 100 == pytest.approx(entry.metrics[stage]["all"])
        by_class = [100 * correct[labels == k].mean() for k in range(10)]
        assert by_class == pytest.approx(entry.metrics[stage]["per_class"])
    assert images.correct(entry, "crt")[0] is correct  # once
    assert over_images(correct, correct).p == 1.0
