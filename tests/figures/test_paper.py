"""The figures by their number: of what is trained, saying what is not."""

import csv
import json
import shutil
from collections import Counter

import pytest
from conftest import tiny_config

from ltvr.data.longtail import imagenet_lt_counts, longtail_counts
from ltvr.figures.paper import FIGURES, Runs
from ltvr.settings import save_config


@pytest.fixture
def of(finished, tmp_path):
    """A copy of a run under another name, which may say that it had other counts or options."""

    def make(name, counts=None, **options):
        folder = shutil.copytree(finished, tmp_path / name)
        if options:
            save_config(tiny_config(epochs=10, **options), folder / "config.yaml")
        if counts is not None:
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest |= {"train_counts": counts, "classes": [str(k) for k in range(len(counts))]}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            lines = (folder / "metrics.jsonl").read_text().splitlines()
            made = [json.loads(line) for line in lines]
            for record in made:
                few = record["synthetic_counts"]
                record["synthetic_counts"] = (few * len(counts))[: len(counts)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made))
        return folder

    return make


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_counts_under_the_papers_names_where_they_are_the_papers(of, tmp_path):
    cifar = of("cifar", longtail_counts(5000, 10, 100))
    runs = {"cifar10": {"ltvr": [cifar], "baseline": [cifar]}, "cifar100": {}, "mine": {"ltvr": []}}
    for figure, column in (("fig2", "training_images"), ("fig5", "synthetic"), ("fig6", "mixed")):
        written = FIGURES[figure](Runs(runs), tmp_path / figure)
        assert [path.suffix for path in written] == [".svg", ".png", ".csv", ".txt"]
        rows = rows_of(tmp_path / f"{figure}.csv")
        assert {row["data_set"] for row in rows} == {"CIFAR-10-IR100", "ImageNet-LT"}
        assert all(float(row[column]) > 0 for row in rows)
    said = (tmp_path / "fig6.txt").read_text()
    assert ", paper 10.0; epoch 2 of cifar" in said and ", paper 230.0; planned from" in said
    assert said.endswith("not trained yet: cifar100, mine\n")
    imagenet = [r for r in rows if r["data_set"] == "ImageNet-LT"]
    assert len(imagenet) == 1000 and imagenet[0]["training_images"] == "1280"
    other = {"cifar10": {"ltvr": [of("other", longtail_counts(5000, 10, 50))]}}
    FIGURES["fig6"](Runs(other), tmp_path / "other")
    assert (tmp_path / "other.txt").read_text().startswith("cifar10: 50.0 : 1")  # not the paper's


def test_imagenet_lt_has_one_panel_of_its_run_or_of_its_class_counts(of, tmp_path):
    panels = [
        ([], {"ImageNet-LT": 1000}, ["planned"]),
        ([of("run", imagenet_lt_counts())], {"ImageNet-LT": 1000}, ["epoch 2 of run"]),
        ([of("less", [9] * 10)], {"imagenet-lt": 10, "ImageNet-LT": 1000}, ["epoch 2", "planned"]),
    ]
    for number, (folders, rows, sources) in enumerate(panels):
        for figure in ("fig2", "fig5", "fig6"):
            to = tmp_path / f"{figure}-{number}"
            FIGURES[figure](Runs({"imagenet-lt": {"ltvr": folders}}), to)
            assert Counter(row["data_set"] for row in rows_of(to.with_suffix(".csv"))) == rows
            said = to.with_suffix(".txt").read_text()
            assert "not trained yet" not in said
            assert figure == "fig2" or all(words in said for words in sources)


def test_fig3_takes_the_runs_over_t_and_over_lambda(of, tmp_path):
    own = of("own", lay_back_start=0.5, loss_weight=1.0)
    runs = {
        "cifar100": {
            "ltvr": [own],
            "ltvr-t-5": [own],  # one and the same run, which is trained once
            "ltvr-lambda-1": [own],
            "ltvr-t-2": [of("t", lay_back_start=0.2), of("t1", lay_back_start=0.2, seed=1)],
            "ltvr-lambda-4": [of("l", loss_weight=4.0)],
            "baseline": [of("b", method="baseline")],
        }
    }
    FIGURES["fig3"](Runs(runs), tmp_path / "fig3")
    rows = rows_of(tmp_path / "fig3.csv")
    found = [(r["parameter"], r["value"], r["runs"]) for r in rows if r["stage"] == "features"]
    assert found == [("t", "2", "2"), ("t", "5", "1"), ("lambda", "1", "1"), ("lambda", "4", "1")]


def test_fig4_has_the_first_stage_of_all(of, finished, tmp_path):
    """Also of a method of one's own, by the name that ``reproduce --with`` gives its run."""
    runs = {"cifar10": {"ltvr": [finished], "method-mine": [finished], "baseline": []}}
    FIGURES["fig4"](Runs(runs, device="cpu"), tmp_path / "fig4")
    found = [(r["network"], r["images"]) for r in rows_of(tmp_path / "fig4-measures.csv")]
    assert found[::2] == [("LTVR", "500"), ("mine", "500")]
    assert "not trained yet: Baseline" in (tmp_path / "fig4.txt").read_text()


def test_nothing_trained(tmp_path):
    for runs in ({}, {"cifar10": {}}):
        assert [name for name, draw in FIGURES.items() if draw(Runs(runs), tmp_path / name)] == [
            "fig2",
            "fig5",
            "fig6",
        ]
    rows = rows_of(tmp_path / "fig5.csv")
    assert {row["data_set"] for row in rows} == {"ImageNet-LT"}
    assert "not trained yet: cifar10" in (tmp_path / "fig5.txt").read_text()
    assert not list(tmp_path.glob("fig[34]*"))
