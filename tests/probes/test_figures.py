"""Figures of the probes show the numbers that they are of."""

import csv

import numpy as np
import pytest

from ltvr.figures.plot import write
from ltvr.probes.figures import (
    Margins,
    Masked,
    draw_accuracies,
    draw_history,
    draw_margins,
    draw_masks,
    draw_neighbours,
)
from ltvr.probes.history import history
from ltvr.probes.lines import Subsets

SUBSETS = Subsets(np.array([500, 50]), 100, 20)


def table(plot, tmp_path):
    """The numbers beside a figure, once it has been drawn into its files."""
    paths = write(plot, tmp_path / "figure")
    assert all(path.stat().st_size > 500 for path in paths[:2])
    return list(csv.DictReader(paths[2].open(newline="")))


def record(epoch, real, synthetic, stage="features"):
    return {
        "stage": stage, "epoch": epoch, "real_loss": real, "real_accuracy": 10.0 * epoch,
        "synthetic_loss": synthetic, "synthetic_accuracy": synthetic and 50.0,
    }  # fmt: skip


def test_history_and_where_generation_begins(tmp_path):
    records = [record(1, 2.0, None), record(2, 1.5, None), record(3, 1.7, 3.0), record(4, 1.0, 1.0)]
    section = history([*records, record(1, 9.0, None, "crt")], "features")
    assert section.details["generation_begins"] == 3 and len(section.details["epochs"]) == 4
    assert section.found == [
        "Epoch 1: real rows 2.000 (10.0 % right).",
        "Epoch 2: real rows 1.500 (20.0 % right).",
        "Epoch 3: real rows 1.700 (30.0 % right), generated rows 3.000 (50.0 % right).",
        "Epoch 4: real rows 1.000 (40.0 % right), generated rows 1.000 (50.0 % right).",
        "Generation begins in epoch 3 of 4.",
    ]
    epochs = section.details["epochs"]
    rows = table(draw_history({"a": epochs, "b": epochs[:1]}), tmp_path)
    assert [(row["run"], row["real_loss"]) for row in rows][2:] == [
        ("a", "1.7"), ("a", "1.0"), ("b", "2.0"),
    ]  # fmt: skip
    plain = history(records[:2], "features")
    assert plain.details["generation_begins"] is None and len(plain.found) == 2


def test_neighbours_add_up_to_a_hundred(tmp_path):
    lines = [
        SUBSETS.line_of("3 nearest: own class", of, values, space="embedding")
        for of, values in (("generated", [60.0, 20.0]), ("real", [70.0, 30.0]))
    ]
    lines.append(
        SUBSETS.line_of(
            "3 nearest: class of the variation donor", "generated", [10.0, 50.0], space="embedding"
        )
    )
    rows = table(draw_neighbours(lines, 3), tmp_path)
    shares = {(r["subset"], r["rows"], r["label"]): float(r["percent"]) for r in rows}
    assert shares["medium", "generated", "other classes"] == 30
    assert (
        shares["all", "real", "other classes"] == 50 and ("few", "real", "own class") not in shares
    )
    sums = {key[:2]: sum(v for k, v in shares.items() if k[:2] == key[:2]) for key in shares}
    assert all(total == pytest.approx(100) for total in sums.values()) and len(sums) == 6


def test_in_a_histogram_every_class_counts_alike(tmp_path):
    margins = Margins(np.array([-0.5] * 9 + [0.5, np.nan]), np.array([0] * 9 + [1, 1]))
    rows = table(draw_margins({"embedding": {"real": margins}}), tmp_path)
    assert float(rows[0]["percent"]) == float(rows[-1]["percent"]) == 50


def test_masks_and_accuracies(tmp_path):
    masks = np.arange(4.0).reshape(2, 2)
    rows = table(draw_masks([Masked("class 0", np.zeros((8, 8, 3)), masks, masks)] * 2), tmp_path)
    assert [float(row["mean"]) for row in rows] == [0, 1, 2, 3] * 2
    lines = [SUBSETS.line_of("accuracy", of, [80.0, 40.0]) for of in ("X", "X_var")]
    rows = table(draw_accuracies({"one": lines, "two": lines[:1]}), tmp_path)
    assert {(r["run"], r["what"]): float(r["percent"]) for r in rows if r["subset"] == "all"} == {
        ("one", "X"): 60, ("one", "X_var"): 60, ("two", "X"): 60,
    }  # fmt: skip
