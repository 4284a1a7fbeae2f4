"""LWS and MiSLAS: scales on a trained classifier, what trains at which rate, and back from disk."""

import json

import numpy as np
import pytest
import torch
from conftest import config_of, summary, tiny_config

import ltvr.embed
import ltvr.evaluate
from ltvr.classifiers.build import Scaled
from ltvr.classifiers.linear import Linear
from ltvr.config.options import NoOptions
from ltvr.engine.trained import load_trained
from ltvr.networks.build import build_network
from ltvr.runs.checkpoint import load_checkpoint
from ltvr.settings import load_config
from ltvr.stages.build import stages_of
from ltvr.training import train


def prepared(stage, **changes):
    """A network of 10 classes prepared for a second stage, the stage, and its loss."""
    config = tiny_config(method="baseline", stages=("features", stage), **changes)
    network, made = build_network(config, 10, "reference"), stages_of(config)[stage]
    made.prepare(network, 0)
    return network, made, made.build_loss(torch.arange(1, 11))


def test_the_scale_multiplies_the_logit_and_its_bias():
    torch.manual_seed(0)
    linear = Linear(NoOptions(), 5, 3).double()
    scaled, x = Scaled(linear, 3).double(), torch.randn(4, 5, dtype=torch.float64)
    assert torch.equal(scaled(x), linear(x))
    with torch.no_grad():
        scaled.scale.copy_(torch.tensor([0.5, 2.0, -1.0]))
    w, b, s = (p.detach().numpy().copy() for p in (linear.weight, linear.bias, scaled.scale))
    expected = [
        [s[c] * (sum(w[c, e] * row[e] for e in range(5)) + b[c]) for c in range(3)]
        for row in x.numpy()
    ]
    np.testing.assert_allclose(scaled(x).detach().numpy(), expected, rtol=1e-12)
    scaled.reset_parameters()
    assert (scaled.scale == 1).all() and not np.array_equal(linear.weight.detach().numpy(), w)


def test_what_the_classifier_keeps_is_shared_by_ranks_under_scales_too():
    network, _, _ = prepared("lws", classifier="cosine")
    scaled = network.classifier
    (moving,) = scaled.statistics()
    assert moving is scaled.classifier.statistics()[0] and len(moving)


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_lws_trains_the_scales_alone(classifier):
    network, stage, loss = prepared("lws", classifier=classifier)
    (group,) = stage.parameter_groups(network, loss)
    assert group.lr_factor == 1 and len(group.parameters) == 1
    assert group.parameters[0] is network.classifier.scale and len(network.classifier.scale) == 10
    assert [p.requires_grad for p in network.parameters()].count(True) == 1


def test_mislas_trains_the_kept_classifier_at_its_own_rate():
    before = build_network(tiny_config(method="baseline"), 10, "reference").classifier
    torch.manual_seed(0)
    network, stage, loss = prepared("mislas", mislas_classifier_factor=0.2)
    scales, kept = stage.parameter_groups(network, loss)
    assert (scales.lr_factor, kept.lr_factor) == (1.0, 0.2)
    assert scales.parameters == [network.classifier.scale]
    assert set(kept.parameters) == set(network.classifier.classifier.parameters())
    assert network.classifier.classifier.weight.shape == before.weight.shape
    frozen = [*network.extractor.parameters(), *network.embedder.parameters()]
    assert not any(p.requires_grad for p in frozen)


@pytest.mark.parametrize("stage", ["crt", "lws", "mislas"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_frozen_part_is_in_the_mode_that_is_asked_for(stage, mode):
    network, made, _ = prepared(stage, **{f"{stage}_batchnorm": mode})
    made.train_mode(network)
    training = mode == "train"
    assert network.extractor.training == network.embedder.training == training
    assert all(part.training for part in network.classifier.modules())


def test_the_methods_and_presets_have_the_settings_of_the_codes():
    config = load_config("cifar10-ir100-resnet32", "mislas")
    mislas = stages_of(config)["mislas"]
    assert (mislas.epochs, mislas.lr, mislas.batchnorm) == (10, 0.1, "eval")
    values = load_config("cifar100-ir100-resnet32", "mislas").flat()
    assert values["mislas_classifier_factor"] == 0.2 and values["mislas_batchnorm"] == "train"
    assert (values["smoothing_head"], values["smoothing_tail"]) == (0.4, 0.1)
    assert values["mixing"] == "mixup" and values["stages"] == ("features", "mislas")
    large = load_config("imagenet-lt", "mislas")
    assert stages_of(large)["mislas"].lr == pytest.approx(0.1 * 512 / 256)
    assert large.flat()["mislas_classifier_factor"] == 0.05
    assert list(stages_of(load_config("digits", "lws"))) == ["features", "lws"]
    assert stages_of(config_of(stages=("lws",), batch_size=512))["lws"].lr == 0.2


def test_a_run_of_both_goes_on_from_features_and_is_read_back(
    finished, tmp_path, command, no_report
):
    folder, changes = tmp_path / "run", {"lws_epochs": 1, "mislas_epochs": 1}
    config = tiny_config(stages=("lws", "mislas"), mislas_loss="cross-entropy", **changes)
    metrics = train(config, folder, source=finished / "features.pt")["metrics"]
    assert list(metrics) == ["lws", "mislas"]
    first = load_checkpoint(finished / "features.pt")["model"]
    lws, mislas = (load_checkpoint(folder / f"{name}.pt")["model"] for name in metrics)
    assert torch.equal(lws["classifier.classifier.weight"], first["classifier.weight"])
    assert (lws["classifier.scale"] != 1).all()
    inner = "classifier.classifier.classifier"  # the scales of LWS are a part of what MiSLAS keeps
    assert not torch.equal(mislas[f"{inner}.weight"], first["classifier.weight"])
    for name, value in first.items():
        if name.startswith(("extractor.", "embedder.")) and value.dim() == 4:
            assert torch.equal(value, lws[name]) and torch.equal(value, mislas[name])
    assert isinstance(load_trained(folder / "lws.pt").network.classifier.classifier, Linear)
    code, _, err = command(ltvr.evaluate, folder, "--json", tmp_path / "metrics.json")
    assert code == 0, err
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["all"] == summary(folder)["metrics"]["mislas"]["all"]
    code, _, err = command(ltvr.embed, folder / "lws.pt", "--out", tmp_path / "test.npz")
    assert code == 0, err
    arrays = np.load(tmp_path / "test.npz")
    w, b, s = (
        lws[f"classifier.{part}"].numpy()
        for part in ("classifier.weight", "classifier.bias", "scale")
    )
    expected = s * (arrays["embeddings"] @ w.T + b)
    np.testing.assert_allclose(arrays["logits"], expected, rtol=1e-4, atol=1e-5)
