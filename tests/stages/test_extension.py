"""Stages and classifiers of one's own are files: they train, fit without gradients, and resume."""

import json

import pytest
from conftest import tiny_config

import ltvr.classifiers
import ltvr.stages
from ltvr.classifiers.cosine import Cosine
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.settings import SCHEMA
from ltvr.training import resume, train

NEAREST_MEAN = '''
"""A classifier without gradients: minus the distance to the mean embedding of each class."""
import torch
from ltvr.classifiers.base import Classifier
__all__ = ["NearestMean"]
class NearestMean(Classifier):
    def __init__(self, options, embedding_dim, num_classes):
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, embedding_dim))
    def forward(self, embeddings):
        return -torch.cdist(embeddings, self.means)
'''
MEANS = '''
"""A stage that replaces the classifier and fits it, without an epoch."""
import torch
from ltvr.classifiers.nearest_mean import NearestMean
from ltvr.config.options import NoOptions
from ltvr.samplers.instance import Instance
from ltvr.stages.base import Stage
__all__ = ["Means"]
class Means(Stage):
    title, lr_flag, needs_trained, epochs, lr, loss = "means", "", True, 0, 0.0, "cross-entropy"
    sampler = Instance(NoOptions())
    def prepare(self, network, seed):
        network.requires_grad_(False)
        number, size = network.classifier.weight.shape
        network.classifier = NearestMean(NoOptions(), size, number)
    @torch.no_grad()
    def settle(self, network, batches):
        network.eval()
        found = [(network.outputs(x).embeddings, y) for x, y in batches.evaluate(100)]
        embeddings, labels = torch.cat([e for e, _ in found]), torch.cat([y for _, y in found])
        means = network.classifier.means
        for k in range(len(means)):
            means[k] = embeddings[labels == k].mean(0)
'''


@pytest.fixture
def components(tmp_path, monkeypatch):
    """Two more files in the folders of components."""
    for package, name, text in (
        (ltvr.classifiers, "nearest_mean", NEAREST_MEAN),
        (ltvr.stages, "means", MEANS),
    ):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    for cached in ("classes", "options"):  # read from the folders once a process
        monkeypatch.delitem(SCHEMA.__dict__, cached, raising=False)
    yield
    for cached in ("classes", "options"):
        SCHEMA.__dict__.pop(cached, None)


def test_a_stage_of_ones_own_replaces_the_classifier_and_fits_it(components, tmp_path, monkeypatch):
    monkeypatch.setattr("ltvr.training.write_report", lambda *_: None)
    config = tiny_config(stages=("features", "means"), epochs=3, classifier="cosine")
    metrics = train(config, tmp_path / "run")["metrics"]
    assert list(metrics) == ["features", "means"] and metrics["means"]["all"] > 30
    network = load_trained(tmp_path / "run").network
    assert type(network.classifier).__name__ == "NearestMean" and network.classifier.means.any()
    first = load_trained(tmp_path / "run" / "features.pt").network
    assert type(first.classifier) is Cosine
    tde = {"tde": True}
    assert load_trained(tmp_path / "run" / "features.pt", inference=tde).network.classifier.alpha
    with pytest.raises(UserError, match="means, has a classifier of its own, for which --tde chan"):
        load_trained(tmp_path / "run", inference=tde)
    (tmp_path / "run" / "summary.json").unlink()
    assert resume(Run.open(tmp_path / "run"))["metrics"] == metrics
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"] == metrics
