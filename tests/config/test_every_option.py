"""No option is ignored, and one that is said to be idle is: by what short runs end with."""

import functools
import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import records, tiny_config

from ltvr.backbones.options import BackboneOptions
from ltvr.config.options import options_of
from ltvr.config.run import RunOptions
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.engine.trainer import Trainer
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.settings import SCHEMA, methods

OPTIONS = {
    each.name: each
    for kind in SCHEMA.classes
    if kind not in (DataOptions, BackboneOptions, RunOptions)  # they have tests of their own
    for each in options_of(kind)
    if each.name != "ldam_scale"  # has to be cosine_scale, which is here
}
SHORT = {
    "batch_size": 16,
    "select": "last",
    "deferred_loss_start": 0.5,
    "deferred_sampler_start": 0.5,
    "weighting_start": 0.5,
    "cmo_plain_first": 0,
    "cmo_plain_last": 0,
    **{f"{stage}_epochs": 1 for stage in ("crt", "generative", "lws", "mislas", "oltr")},
}
"""Of every run here, which has two epochs of two steps; what begins late begins in the second."""
GENERATIVE = {"stages": ["features", "generative"]}
ELSEWHERE = {
    **{name: GENERATIVE for name in OPTIONS if name.startswith("generative_")},
    "generative_embedder_factor": {**GENERATIVE, "generative_trains": "embedder"},
    "rarity_exponent": {"rarity": "data-set"},
    "head_share": {"donors": "head"},
    "selected_share": {"combination": "channels"},
    "lr_decay": {"milestones": [0.5]},
    "deferred_loss_start": {"deferred_loss": "focal"},
    "effective_number_sampler_beta": {"sampler": "effective-number"},
    "accumulate": {"synthesis_group": 8},
    "progressive_draw": {"sampler": "progressive"},
    "oltr_margin": {"oltr_margin": 1e6},
    "oltr_repel_weight": {"oltr_margin": 1e6},
}
"""Options that no method brings into use, or lets decide: with what they are."""
OTHER = {
    "embedding_layer": 8,
    "insert_after": "layer2",
    "moving_feature_decay": 0.5,
    "synthesis_group": 4,
    "ema": 0.5,
    "milestones": [0.5],
    "smoothing_tail": 0.1,
    "cmo_plain_first": 1,
    "cmo_plain_last": 1,
    "remix_t": 1.0,
    "oltr_milestones": [0.9],
}
"""Another value, where none follows from the type."""


def config(method, changes):
    return tiny_config(method=method, **{**SHORT, **changes})


def in_use(name):
    """A method, and changes to it, that an option decides something of."""
    for method in ("ltvr", "baseline", *methods()):
        changes = ELSEWHERE.get(name, {})
        try:
            if name in config(method, changes).effective():
                return method, changes
        except UserError:
            continue
    raise AssertionError(f"no method has {name} in use; say in ELSEWHERE what does")


def others(option, value):
    """Other values of an option, the first of which that fits is taken."""
    if option.name in OTHER:
        return [OTHER[option.name]]
    if isinstance(value, bool):
        return [not value]
    if option.choices is not None:
        chosen = option.choices
        return [[c] if isinstance(value, tuple) else c for c in chosen if c != value]
    if isinstance(value, int):
        return [2 * value, value + 1, value - 1]
    return [value / 2, value + 0.25, value - 0.25]


@functools.cache
def outcome(method, changes, folder):
    """What two epochs of two steps, and a second stage, end with: numbers that tell runs apart."""
    made = config(method, json.loads(changes))
    data = load_data(made)
    data = replace(data, test=data.test.take(np.arange(0, len(data.test), 20)))
    place = folder / str(len([*folder.iterdir()]))
    with Run.create(place, made, manifest(data, made), "") as run:
        trainer = Trainer(made, data, run, say=lambda line: None, steps=2)
        results = trainer.fit()
        logits = torch.cat([trainer.network(x) for x, _ in trainer.test_batches.evaluate(50)])
    weights = trainer.network.state_dict()
    return [*weights.values(), logits], str(results), str(records(run.folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("options")


def test_nothing_but_the_options_decides(folder):
    first, second = (outcome.__wrapped__("ltvr", "{}", folder) for _ in range(2))
    assert all(map(torch.equal, first[0], second[0])) and first[1:] == second[1:]


def alike(method, changes, other, folder):
    """Whether a run with other values ends as the one without them."""
    one, two = (outcome(method, json.dumps(c), folder) for c in (changes, {**changes, **other}))
    weights = len(one[0]) == len(two[0]) and all(map(torch.equal, one[0], two[0]))
    return weights and one[1:] == two[1:]


def another(name, method, changes, fits):
    """Another value of an option, that fits the method and changes."""
    value = config(method, changes).flat()[name]
    for other in others(OPTIONS[name], value):
        with suppress(UserError):
            if fits(config(method, {**changes, name: other})):
                return other
    raise AssertionError(f"{name}: say in OTHER another value than {value}")


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_decides_something(name, folder):
    method, changes = in_use(name)
    other = another(name, method, changes, lambda made: name in made.effective())
    assert not alike(method, changes, {name: other}, folder), f"{name} = {other} changes nothing"


IDLE = [
    (each.name, values)
    for each in OPTIONS.values()
    for values in (
        *({name: v} for name, those in each.idle.items() for v in those),
        *([dict(each.idle_together)] if each.idle_together else []),
    )
    if not any(map(callable, values.values())) and each.name != "nesterov"  # refused there
]


@pytest.mark.parametrize(("name", "values"), IDLE, ids=str)
def test_an_option_that_is_idle_decides_nothing(name, values, folder):
    method, changes = in_use(name)
    changes = {**changes, **values}
    assert OPTIONS[name].idle_by(config(method, changes).flat())
    other = another(name, method, changes, lambda made: True)
    assert alike(method, changes, {name: other}, folder), f"{name} = {other} changes something"
