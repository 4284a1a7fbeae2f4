"""Figures 2, 5 and 6: the numbers in them."""

import csv

import numpy as np
import pytest
import torch
from conftest import tiny_config

import ltvr.training
from ltvr import plan_synthesis
from ltvr.data.longtail import longtail_counts
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.figures.counts import (
    ClassCounts,
    counts_of,
    draw_counts,
    draw_mixed,
    draw_synthetic,
    simulated,
)
from ltvr.figures.plot import write
from ltvr.runs.folder import Run


def rows_of(path):
    return list(csv.DictReader(path.open(newline="")))


def test_the_files_of_a_figure_hold_its_numbers(tmp_path):
    counts = ClassCounts(
        "ours $x$", ["a", "b,c", "d"], np.array([10, 40, 2]), np.array([4, 0, 6.5])
    )
    for draw, name in ((draw_counts, "fig2"), (draw_synthetic, "fig5"), (draw_mixed, "fig6")):
        written = write(draw([counts]), tmp_path / name)
        ends = ("svg", "png", "csv", "txt")
        assert [path.name for path in written] == [f"{name}.{end}" for end in ends]
        assert b"<svg" in written[0].read_bytes() and written[1].read_bytes()[1:4] == b"PNG"
        rows = rows_of(written[2])
        assert [row["class"] for row in rows] == ["b,c", "a", "d"]  # by falling training images
        assert [row["training_images"] for row in rows] == ["40", "10", "2"]
        assert [row["synthetic"] for row in rows] == ["0", "4", "6.5"]
        assert [row["mixed"] for row in rows] == ["40", "14", "8.5"]
        before = written[0].read_bytes()
        assert write(draw([counts]), tmp_path / name)[0].read_bytes() == before
    assert draw_mixed([counts]).notes == ["ours $x$: 20.0 : 1 to 4.7 : 1; "]
    titles = [axis.get_title() for axis in draw_synthetic([counts]).figure.axes]
    assert titles == ["ours $x$\ninf : 1"]  # a class without any has no ratio
    with pytest.raises(UserError, match="no synthetic samples"):
        draw_mixed([ClassCounts("ours", ["a", "b"], np.array([2, 1]))])


def test_the_papers_ratios_stand_beside_ours():
    """On these counts at 24 images a plan they come out within a tenth of the paper's."""
    for name, number, largest in (("CIFAR-10-IR100", 10, 5000), ("CIFAR-100-IR100", 100, 500)):
        original = np.array(longtail_counts(largest, number, 100))
        counts = ClassCounts(name, [str(k) for k in range(number)], original)
        mixed = simulated(counts, 24)
        ratio = (original + mixed.made).max() / (original + mixed.made).min()
        paper = {10: 10.0, 100: 62.0}[number]
        assert abs(ratio / paper - 1) < 0.1
        (note,) = draw_mixed([mixed]).notes
        assert note.startswith(f"{name}: 100.0 : 1 to {ratio:.1f} : 1, paper {paper:.1f}; planned")
        assert "24 images a plan, gamma 1, alpha 4, seed 0, mean of 10 epochs" in note


def test_simulated_counts_are_those_of_a_run(tmp_path, no_report):
    """The same order of the images and the same plans, from the class counts alone."""
    config = tiny_config(
        epochs=1, lay_back_start=0.0, stages=("features",), seed=3, synthesis_group=64
    )
    ltvr.training.train(config, tmp_path / "run")
    found = counts_of(Run(tmp_path / "run"), "digits")
    assert found.source == "epoch 1 of run" and found.made.sum() > 0
    alone = ClassCounts("digits", found.classes, found.original)
    options = config.of(GenerationOptions)
    again = simulated(alone, 64, gamma=options.gamma, alpha=options.alpha, seed=3, epochs=1)
    assert again.made.tolist() == found.made.tolist()


def test_simulated_counts_by_hand():
    """Two classes of 3 and 1 in one batch of all: eq. 9-10 without a random number."""
    counts = ClassCounts("ours", ["a", "b"], np.array([3, 1]))
    made = simulated(counts, 4, gamma=1.0, alpha=1.0, epochs=2).made
    assert made.tolist() == [1.0, 3.0]  # ceil of 4 (1/3) / (4/3), and of 4 / (4/3)
    plan = plan_synthesis(torch.tensor([0, 0, 0, 1]), alpha=1.0, seed=0, step=0)
    assert np.bincount(plan.labels).tolist() == [1, 3]
    for batch in (1, 5):
        with pytest.raises(UserError, match="expected 2 to 4, the images of ours"):
            simulated(counts, batch)


def test_counts_of_a_run_that_generates_nothing(tmp_path, finished):
    assert counts_of(Run(finished), "digits").synthetic is not None
    run = tmp_path / "run"
    run.mkdir()
    for name in ("manifest.json", "config.yaml"):
        (run / name).write_text((finished / name).read_text())
    counts = counts_of(Run(run), "digits")
    assert counts.synthetic is None and draw_counts([counts]).notes == ["digits: 404 images"]
