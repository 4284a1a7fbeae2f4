"""The page of a run: made of its files alone, with or without the masks."""

import shutil
import warnings
from dataclasses import replace

import numpy as np
import torch

import ltvr.report
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.reports.html import drawing
from ltvr.reports.page import _classes, _counts, _masks, _per_class, write_report
from ltvr.runs.folder import Run


def test_report_is_made_again_from_the_files_of_a_run(finished, tmp_path, command):
    copy = shutil.copytree(finished, tmp_path / "copy")
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    assert "Images: train 404; test 500. Skipped because they cannot be read: none." in before
    code, out, err = command(ltvr.report, copy)
    assert code == 0 and str(copy / "report.html") in out, err
    assert (copy / "report.html").read_text() == before
    assert command(ltvr.report, copy, "--no-masks")[0] == 0
    page = (copy / "report.html").read_text()
    assert "<h2>Masks</h2>" not in page and "the masks are left out" in page
    (copy / "summary.json").unlink()
    code, _, err = command(ltvr.report, copy)
    assert code == 2 and "is not finished" in err


def test_class_names_of_any_kind_are_shown(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    names = [
        "$\\frac$",
        "a\nb\x1b[2J",
        "\udcff",
        "<script>",
        "猫😀",
        "x" * 300,
        "\u202e",
        "{{ 7*7 }}",
    ]
    data = load_data(Run(copy).config())
    rare_first = replace(data, classes=[*data.classes[:2], *names[::-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(Run(copy), rare_first)
    page = (copy / "report.html").read_bytes().decode("utf-8")
    assert "9 «$\\frac$»" in page and "8 «a\\nb\\x1b[2J»" in page and "7 «\\udcff»" in page
    assert "6 «&lt;script&gt;»" in page and "5 «猫😀»" in page and "x" * 50 not in page
    assert not list(copy.glob("*.partial"))


def test_masks_are_in_the_precision_of_the_run(finished, monkeypatch):
    trained = load_trained(finished)
    trained = trained._replace(config=trained.config.replaced(amp="bf16"))
    found = []

    def masks(images):
        found.append(torch.is_autocast_enabled("cpu"))
        return torch.ones(len(images), 1, 2, 2)

    monkeypatch.setattr(trained.network, "masks", masks)
    _masks(trained, load_data(trained.config), [0, 1])
    assert found == [True]


def test_the_largest_classes_are_listed():
    counts = np.array([*range(1, 150), 0])
    names = [f"k\n{k}" for k in range(150)]
    metrics = {
        "features": {"per_class": [k / 3 for k in range(150)]},
        "crt": {"per_class": [None] * 150},
    }
    rows = _classes(metrics, names, counts)
    assert len(rows) == 100 and rows[0] == ("k\\n148", ["149", "49.33", "n/a"])
    assert [row[0] for row in rows] == [f"k\\n{k}" for k in range(148, 48, -1)]


def test_figures_of_thousands_of_classes_take_no_shape_each():
    counts = np.arange(1, 5001)
    record = {"stage": "features", "synthetic_counts": counts.tolist()}
    values = {"features": {"per_class": [50.0] * 5000}}
    for figure in (_counts([record], counts), _per_class(values, counts)):
        assert sum(len(axis.patches) for axis in figure.axes) <= 3
        assert drawing(figure)
