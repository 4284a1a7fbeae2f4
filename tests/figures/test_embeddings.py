"""Figure 4: the measures by hand, and the embeddings of a run."""

import csv
import math

import numpy as np
import pytest
import torch
from conftest import tiny_config

from ltvr.data.datasets import load_data
from ltvr.engine.source import Source
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.figures.embeddings import LabelledEmbeddings, draw_embeddings, embed, how_apart
from ltvr.figures.plot import write


def test_measures_by_hand():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 3.0], [6.0, 1.0], [6.0, 1.0]])
    apart = how_apart(points, np.array([0, 0, 0, 1, 1]))
    assert apart.within == pytest.approx((4 / 3 + 0) / 2)  # of distances 1, 1, 2 and 0, 0
    assert apart.between == 6.0
    near, far = math.hypot(6, 1), math.hypot(6, 2)  # from the images of class 1
    of_each = [1 - 1.5 / near, 1 - 1.5 / near, 1 - 3 / far, 1.0, 1.0]
    assert apart.silhouette == pytest.approx(sum(of_each) / 5)


def test_a_panel_a_network_and_its_numbers(tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 12)
    far = (random.normal(size=(36, 5)) + 50 * np.eye(5)[labels]).astype(np.float32)
    near = random.normal(size=(36, 5)).astype(np.float32)
    plot = draw_embeddings(
        {"near": LabelledEmbeddings(near, labels), "far": LabelledEmbeddings(far, labels)},
        ["a", "b", "c"],
        most=30,
    )
    assert write(plot, tmp_path / "fig4")[2:] == [
        tmp_path / "fig4.csv",
        tmp_path / "fig4-measures.csv",
        tmp_path / "fig4.txt",
    ]
    rows = list(csv.DictReader((tmp_path / "fig4.csv").open(newline="")))
    assert (
        len(rows) == 60
        and [row["class"] for row in rows[:30]] == ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    )
    measures = list(csv.DictReader((tmp_path / "fig4-measures.csv").open(newline="")))
    by_name = {(m["network"], m["space"]): m for m in measures}
    chosen = np.flatnonzero(np.arange(36) % 12 < 10)
    for name, at in (("near", near), ("far", far)):
        expected = how_apart(at[chosen], labels[chosen])
        found = by_name[name, "embeddings"]
        assert float(found["silhouette"]) == pytest.approx(expected.silhouette, abs=1e-4)
        assert float(found["within"]) == pytest.approx(expected.within, abs=1e-4)
        assert float(found["between"]) == pytest.approx(expected.between, abs=1e-4)
    map_of_far = np.array([[float(r["x"]), float(r["y"])] for r in rows[30:]])
    expected = how_apart(map_of_far, labels[chosen])
    assert float(by_name["far", "map"]["silhouette"]) == pytest.approx(
        expected.silhouette, abs=1e-3
    )
    assert float(by_name["far", "map"]["silhouette"]) > 0.5  # the classes stay apart
    assert "far, embeddings: silhouette 0.9" in " ".join(plot.notes)


@pytest.mark.parametrize("labels", [[], [0, 0, 0, 0], [0, 1], [0, 1, 2, 3]])
def test_too_few_images_to_place(labels):
    points = np.zeros((len(labels), 3), np.float32)
    with pytest.raises(UserError, match="expected at least 2 classes, and more images"):
        draw_embeddings({"a": LabelledEmbeddings(points, np.array(labels, np.int64))}, list("abcd"))


def test_embeddings_are_what_the_classifier_reads(finished):
    found = embed(finished / "features.pt", Source(), "cpu")
    trained = load_trained(finished / "features.pt", "cpu")
    test = load_data(tiny_config()).test
    assert found.labels.tolist() == test.labels.tolist()
    weight, bias = (p.detach() for p in trained.network.classifier.parameters())
    logits = torch.from_numpy(found.embeddings) @ weight.T + bias
    with torch.no_grad():
        data = trained.config.flat()
        mean, std = (torch.tensor(data[n]).view(3, 1, 1) for n in ("mean", "std"))
        expected = trained.network((test.images.float() / 255 - mean) / std)
    assert torch.allclose(logits, expected, atol=1e-4)
