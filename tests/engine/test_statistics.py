"""Accuracy by BatchNorm statistics, against statistics that are taken by hand."""

import pytest
import torch
from conftest import summary, tiny_config
from torch import nn

import ltvr.training
from ltvr.clock import stream
from ltvr.config.options import NoOptions
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.statistics import accuracy_by_statistics
from ltvr.engine.trained import load_trained
from ltvr.networks.batchnorm import measure_real_statistics, running_statistics
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions
from ltvr.samplers.instance import Instance

CPU = torch.device("cpu")


def by_hand(folder, images):
    """Accuracy of the weights with the statistics of one batch, which momentum 1 leaves."""
    network = load_trained(folder / "features.pt", "cpu").network
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def test_accuracy_by_statistics_of_one_batch(finished):
    config = tiny_config(augmentation="none", eval_batch_size=200, batchnorm_images=350)
    data = load_data(config)
    train, test = Batches(data.train, config, CPU), Batches(data.test, config, CPU)
    network = load_trained(finished / "features.pt", "cpu").network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    running = {name: value + 0.1 for name, value in running_statistics(network).items()}
    reported, state = evaluate_split(network, test, data.counts), torch.get_rng_state()

    found = accuracy_by_statistics(network, running, True, reported, train, test, data.counts)

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (found["images"], found["reported"]) == (200, "settled")
    samplers = {"real": Instance(NoOptions()), "class-balanced": ClassAware(ClassAwareOptions())}
    labels, seed, expected = data.train.labels, stream(0, "statistics"), {}
    for kind, sampler in samplers.items():
        order = sampler.epoch(labels, seed=seed, epoch=0, epochs=1)[:200]
        images = (data.train.images[order].float() / 255 - 0.3) / 0.35
        expected[kind] = evaluate_split(by_hand(finished, images), test, data.counts)["all"]
    network.load_state_dict(before | running)
    expected["running"] = evaluate_split(network, test, data.counts)["all"]
    got = {kind: accuracy["all"] for kind, accuracy in found["accuracy"].items()}
    assert got == pytest.approx(expected, abs=0.3)  # an image in 500 is 0.2
    assert len(set(got.values())) == 3


@pytest.mark.parametrize(
    ("images", "features", "crt"), [(5000, "real", "real"), (100, "settled", "kept")]
)
def test_statistics_that_a_stage_has_kept_are_not_running(
    images, features, crt, tmp_path, no_report
):
    """They are those that the stage before has settled on, of all of the real images."""
    config = tiny_config(
        method="baseline", epochs=1, features_batchnorm="real", crt_batchnorm="eval",
        eval_batch_size=100, batchnorm_images=images,
    )  # fmt: skip
    ltvr.training.train(config, tmp_path / "run")
    found = {name: of["batchnorm"] for name, of in summary(tmp_path / "run")["metrics"].items()}
    assert {name: of["reported"] for name, of in found.items()} == {
        "features": features,
        "crt": crt,
    }
    assert list(found["features"]["accuracy"]) == ["running", "real", "class-balanced"]
    assert list(found["crt"]["accuracy"]) == ["kept", "real", "class-balanced"]


def test_measured_statistics_do_not_follow_from_what_was_drawn_before():
    """Of a backbone with dropout: a resumed run measures what one by itself does."""
    config = tiny_config(augmentation="none", eval_batch_size=100)
    batches = Batches(load_data(config).train, config, CPU)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 4), nn.BatchNorm1d(4))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        measure_real_statistics(network, batches, config)
        found.append(network[3].running_mean.clone())
    assert torch.equal(*found) and found[0].any()


def test_without_batchnorm_there_is_nothing_to_measure():
    config = tiny_config()
    data = load_data(config)
    batches = Batches(data.test, config, CPU)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    assert accuracy_by_statistics(network, {}, True, {}, batches, batches, data.counts) is None
