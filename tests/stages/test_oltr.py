"""OLTR's second stage: what it starts from, what it trains at which rate, and that it goes on."""

import copy
import signal

import onnxruntime
import pytest
import torch
from conftest import Killed, records, summary, tiny_config

import ltvr.evaluate
import ltvr.export
import ltvr.predict
import ltvr.report
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.totals import EpochTotals
from ltvr.engine.trained import load_trained
from ltvr.errors import Stopped, UserError
from ltvr.networks.build import build_network
from ltvr.oltr.classifier import MetaEmbedding
from ltvr.runs.folder import Run
from ltvr.stages.oltr import OLTR
from ltvr.training import resume, train

NEW = "embedder.last_map"


def config_of_tests(**changes):
    options = {"embedding_layer": 16, "oltr_epochs": 2, "batch_size": 128, "ema": 0.5}
    return tiny_config(method="oltr", **{**options, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oltr") / "run"
    train(config_of_tests(), folder)
    return folder


@pytest.fixture
def first_stage(run):
    """The network of the first stage, and the training images."""
    network, config, *_ = load_trained(run / "features.pt", "cpu")
    return network, config, load_data(config).train


def test_it_starts_as_the_first_stage_with_the_means_of_the_classes(first_stage):
    network, config, images = first_stage
    before, stage = copy.deepcopy(network), OLTR(config)
    stage.prepare(network, 1)
    batches = Batches(images, config, torch.device("cpu"))
    stage.begin(network.train(), batches)
    assert set(network.state_dict()) > {f"{NEW}.0.out.weight", "classifier.centroids"}
    assert torch.equal(network.classifier.hallucinator.weight, before.classifier.weight)
    assert torch.equal(network.classifier.hallucinator.bias, before.classifier.bias)
    with torch.no_grad():
        found = [(before.outputs(x).embeddings, y) for x, y in batches.evaluate(50)]
        x = next(batches.evaluate(9))[0]
        assert torch.equal(network.outputs(x).embeddings, before.outputs(x).embeddings)
    embeddings, labels = torch.cat([e for e, _ in found]), torch.cat([y for _, y in found])
    for k, centroid in enumerate(network.classifier.centroids):
        torch.testing.assert_close(centroid, embeddings[labels == k].mean(0))


@pytest.mark.parametrize("backbone", ["tuned", "frozen"])
def test_every_part_is_trained_at_its_own_rate(backbone):
    rates = {"oltr_backbone_factor": 0.3, "oltr_centroids_factor": 0.7}
    config = config_of_tests(oltr_backbone=backbone, **rates)
    network, stage = build_network(config, 10, "reference"), OLTR(config)
    stage.prepare(network, 1)
    loss = stage.training_loss(network, torch.ones(10))
    names = {id(p): name for name, p in network.named_parameters()}
    groups = stage.parameter_groups(network, loss)
    found = {names[id(p)]: g.lr_factor for g in groups for p in g.parameters}
    assert len(found) == sum(len(g.parameters) for g in groups)
    expected = {}
    for name in names.values():
        if name.startswith("classifier."):
            expected[name] = 0.7 if name == "classifier.centroids" else 1.0
        elif backbone == "tuned" or name.startswith((NEW, "embedder.embedding_layer")):
            expected[name] = 0.3
    assert found == expected
    assert {n for n, p in network.named_parameters() if p.requires_grad} == set(found)


def weights(folder, name):
    return torch.load(folder / name, weights_only=True)["model"]


def below_the_classifier(folder, name):
    return {k: v for k, v in weights(folder, name).items() if not k.startswith("classifier.")}


def test_the_backbone_is_tuned_or_left_as_it_was(run, tmp_path, no_report):
    """The second by itself, from the run that has the features."""
    changes = {"oltr_backbone": "frozen", "oltr_batchnorm": "eval", "oltr_epochs": 1, "ema": 0.0}
    train(config_of_tests(stages="oltr", **changes), tmp_path / "frozen", source=run)
    before = below_the_classifier(run, "features.pt")
    new = ("embedder.embedding_layer",)
    for folder, frozen in ((run, False), (tmp_path / "frozen", True)):
        after = below_the_classifier(folder, "final.pt")
        changed = {k for k in before if not torch.equal(before[k], after[k])}
        assert any(k.startswith(new) for k in changed)
        assert frozen == all(k.startswith(new) for k in changed)
        assert after[f"{NEW}.0.out.weight"].any()


def test_a_run_stopped_anywhere_in_the_stage_ends_as_if_it_had_not_been(
    run, tmp_path, monkeypatch, no_report
):
    folder, add, begin = tmp_path / "stopped", EpochTotals.add, OLTR.begin

    def kill(*arguments):
        raise Killed

    def at(step, stop):
        done = 0

        def counted(*arguments):
            nonlocal done
            done += 1
            if done == step:
                stop()
            add(*arguments)

        return counted

    def begun_and_killed(*arguments):
        begin(*arguments)
        raise Killed

    def interrupt():
        signal.raise_signal(signal.SIGINT)

    # Three steps an epoch; a kill goes on from what was saved before.
    for number, patches in enumerate(
        [
            {(OLTR, "begin"): begun_and_killed},
            {(EpochTotals, "add"): at(2, kill)},
            {(EpochTotals, "add"): at(2, interrupt), (OLTR, "begin"): kill},
            {(EpochTotals, "add"): at(3, kill), (OLTR, "begin"): kill},  # in the second epoch
        ]
    ):
        with monkeypatch.context() as patched, pytest.raises((Killed, Stopped)):
            for (owner, name), value in patches.items():
                patched.setattr(owner, name, value)
            resume(Run.open(folder)) if number else train(config_of_tests(), folder)
    resume(Run.open(folder))
    assert summary(folder)["metrics"] == summary(run)["metrics"]
    assert records(folder) == records(run)
    ours, theirs = weights(folder, "final.pt"), weights(run, "final.pt")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_commands_read_a_run_of_it(run, tmp_path, command):
    all_ = f"{summary(run)['metrics']['oltr']['all']:.2f}"
    code, out, err = command(ltvr.evaluate, run)
    assert code == 0 and all_ in out, err
    code, _, err = command(ltvr.report, run)
    page = (run / "report.html").read_text()
    assert code == 0 and "<td>OLTR</td>" in page and all_ in page, err
    code, _, err = command(ltvr.export, run, "--out", tmp_path / "model.onnx")
    assert code == 0, err
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    network = load_trained(run, "cpu").network
    assert isinstance(network.classifier, MetaEmbedding)
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        expected = network(x)
    got = torch.from_numpy(session.run(None, {"images": x.numpy()})[0])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classifier": "cosine"}, "classifier = cosine: .* say --classifier linear"),
        ({"stages": ("features", "lws", "oltr")}, "stages = .* and lws leaves another; put oltr"),
    ],
)
def test_another_classifier_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        config_of_tests(**changes)
