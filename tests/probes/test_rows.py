"""The rows that probes look at are those of training and of inference."""

import numpy as np
import torch

from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.decompositions.options import GenerationOptions
from ltvr.engine.trained import load_trained
from ltvr.probes.rows import classes_of, features_of, generated_rows, real_rows
from ltvr.stages.base import Classes
from ltvr.stages.build import stages_of


def test_real_rows_are_those_of_inference(finished):
    trained = load_trained(finished / "features.pt")
    data = load_data(trained.config)
    rows = real_rows(trained, data.test, inputs=True)
    images = Batches(data.test, trained.config, trained.device).evaluate(500)
    outputs = [trained.outputs(each) for each, _ in images]
    torch.testing.assert_close(rows.logits, torch.cat([each.logits for each in outputs]))
    torch.testing.assert_close(rows.embeddings, torch.cat([each.embeddings for each in outputs]))
    assert (rows.labels == data.test.labels).all() and rows.inputs.shape[1] > 0
    assert real_rows(trained, data.test).inputs.shape == (len(data.test), 0)


def test_generated_rows_are_those_of_the_last_epoch(finished, monkeypatch):
    """Each is X_class[i] + X_var[j] of the images i and j (eq. 11), by the plans of training."""
    trained = load_trained(finished / "features.pt")
    data, stage = load_data(trained.config), stages_of(trained.config)["features"]
    planned = []
    plan = type(stage).plan

    def noted(self, labels, clock, *more):
        found = plan(self, labels, clock, *more)
        planned.append((clock, labels, found))
        return found

    monkeypatch.setattr(type(stage), "plan", noted)
    found = generated_rows(
        trained, data.train, "features", stage, classes_of(trained, stage, data), most=3
    )
    assert found.batches == 3 and [clock.steps_done for clock, *_ in planned] == [6, 7, 8]
    assert (found.rows.labels == data.train.labels[found.class_donor]).all()
    plans = np.concatenate([each.labels.numpy() for *_, each in planned])
    assert found.rows.labels.tolist() == plans.tolist()
    assert (found.class_donor != found.variation_donor).all()

    features = torch.cat([x for x, _ in features_of(trained, data.train)])
    with torch.no_grad():
        x_class, x_var = trained.network.decomposition.decompose(features)
        expected = x_class[found.class_donor] + x_var[found.variation_donor]
        embeddings = trained.network.embedder(expected)
    torch.testing.assert_close(found.rows.inputs, expected.flatten(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.rows.embeddings, embeddings, rtol=1e-3, atol=1e-4)
    alone = (x_class + x_var)[found.class_donor].flatten(1)
    torch.testing.assert_close(found.alone.inputs, alone, rtol=1e-4, atol=1e-4)
    assert (found.alone.labels == found.rows.labels).all()


def test_donors_and_selections_are_those_of_the_run(finished):
    options = {"donors": "confused", "combination": "positions"}
    trained = load_trained(finished / "features.pt")
    config = trained.config.replaced(**options)
    data, stage = load_data(config), stages_of(config)["features"]
    trained.network.decomposition.generation = config.of(GenerationOptions).generation
    known = classes_of(trained, stage, data)
    assert known.confusions.shape == (10, 10) and known.counts.tolist() == data.counts.tolist()
    found = generated_rows(trained, data.train, "features", stage, known, most=3)
    assert (data.train.labels[found.variation_donor] != found.rows.labels).mean() > 0.9
    # Every position is V of i, or V of j.
    features = torch.cat([x for x, _ in features_of(trained, data.train)])
    with torch.no_grad():
        v = torch.add(*trained.network.decomposition.decompose(features)).flatten(1)
    of_i, of_j = (
        (found.rows.inputs - v[donor]).abs() < 1e-4
        for donor in (found.class_donor, found.variation_donor)
    )
    assert (of_i | of_j).all() and not of_i.all()


def test_nothing_is_generated_from_nothing(finished):
    trained = load_trained(finished / "features.pt")
    data = load_data(trained.config)
    stage = stages_of(trained.config.replaced(gamma=0.0))["features"]
    assert (
        generated_rows(trained, data.train, "features", stage, Classes(data.counts), most=3) is None
    )
