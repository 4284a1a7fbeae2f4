"""Probabilities under other class frequencies than a network was trained with.

A classifier that was trained by cross-entropy gives p(y|x) under the class frequencies of its
training, q. Under frequencies p the logits move by log p - log q: Saerens et al., Adjusting the
Outputs of a Classifier to New a Priori Probabilities, Neural Computation 14(1), 2002, eq. 2.4;
Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 8 with p uniform.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltvr.clock import Clock
from ltvr.config.run import RunOptions
from ltvr.data.files import read_lines
from ltvr.data.options import DataOptions
from ltvr.engine.balanced import chosen_by
from ltvr.errors import UserError
from ltvr.runs.checkpoint import load_checkpoint
from ltvr.runs.folder import Run
from ltvr.runs.forms import Form, check
from ltvr.samplers.base import Shares
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["adjustment", "trained_prior", "wanted_prior"]

AT: Form = {"epoch": int, "step": int, "totals": {"synthetic_counts": Tensor}}
"""What a checkpoint of the state of training holds of where it stood."""


def adjustment(run: Run, weights: Path, wanted: str) -> Tensor:
    """What is added to the logits of weights for the class frequencies ``wanted``: [C] float32.

    Args:
        weights: the checkpoint.
        wanted: of ``wanted_prior``.

    Raises:
        UserError: as ``trained_prior`` and ``wanted_prior``.
    """
    with np.errstate(divide="ignore"):  # a class that is ruled out has the logit -inf
        shift = np.log(wanted_prior(run, wanted)) - np.log(trained_prior(run, weights))
    return torch.from_numpy(shift).float()


def trained_prior(run: Run, weights: Path) -> Shares:
    """Class frequencies that the logits of a checkpoint are under: [C] float64, of sum 1.

    How much of the loss each class was in the epoch that left the weights, from what the sampler
    gives, the samples that were generated, what mixing makes of the labels of both, as expected,
    and the loss's weights by class; less what the loss added to the logits.

    Args:
        weights: a checkpoint of the run, of any kind.

    Raises:
        UserError: the run has no record of that epoch.
    """
    config, state = run.config(), load_checkpoint(weights)
    stage, training = state["stage"], config.of(TrainingOptions)
    described = stages_of(config)[stage]
    counts = np.asarray(run.manifest()["train_counts"], np.int64)
    steps = int(counts.sum()) // training.batch_size
    clock = Clock(config.of(RunOptions).seed, stage, described.epochs, steps, training.accumulate)
    generated = np.zeros(len(counts))
    if described.epochs:
        clock, generated = _trained_in(run, state, weights, clock)

    loss = described.build_loss(torch.from_numpy(counts))
    loss.begin_epoch(clock)
    classes = torch.arange(len(counts))
    by_class = loss.weights(classes).double().numpy()

    shares = described.sampler.shares(counts, clock.epoch, max(described.epochs, 1))
    real = shares * max(clock.step * training.batch_size, 1)
    rows = None
    if loss.normalise == "batch":
        rows = (float(real.sum()), float(real.sum() + generated.sum()))
    mixing = described.mixing
    if mixing is None or clock.epoch not in mixing.epochs(described.epochs):
        real, generated = real * by_class, generated * by_class
    else:
        partners, factor, apart = shares, 1.0, mixing.partners
        if apart is not None:
            partners = apart.shares(counts, clock.epoch, described.epochs)
        first = mixing.first_labels(real, partners, counts)
        if apart is not None and loss.normalise == "weights":  # as ``Loss.balance_labels``
            factor = float(first @ by_class / (first.sum() * partners @ by_class))
        mixed = partial(mixing.label_shares, counts=counts, size=config.of(DataOptions).image_size)
        real, generated = (
            by_class * _with_second(partial(mixed, rows), partners, factor)
            for rows in (first, generated)
        )
    trained = described.class_shares(real, generated, rows)
    prior: Shares = trained / np.exp(loss.offsets(classes).double().numpy())
    prior /= prior.sum()
    return prior


def _with_second(labels: Callable[[Shares], Shares], partners: Shares, factor: float) -> Shares:
    """Expected labels [C] of mixed rows, those of their partners ``factor`` times.

    Args:
        labels: ``Mixing.label_shares`` of rows, by their partners.
    """
    every = labels(partners)
    if factor == 1:
        return every
    return every + (factor - 1) * (every - labels(np.zeros_like(partners)))


def _trained_in(
    run: Run, state: dict[str, Any], weights: Path, clock: Clock
) -> tuple[Clock, Shares]:
    """The end of the epoch that left the weights of a checkpoint, and what was generated in it.

    A checkpoint within an epoch is of what there was of it.

    Args:
        state: of the checkpoint ``weights``.
        clock: at the start of its stage.

    Returns:
        the clock, and how many samples of each class were generated: [C].
    """
    records = [record for record in run.records() if record["stage"] == clock.stage]
    if "epoch" in state:  # the state of training, and not weights alone
        check(state, AT, weights)
        if state["step"]:
            made = state["totals"]["synthetic_counts"].double().numpy()
            return replace(clock, epoch=state["epoch"], step=state["step"]), made
        records = [record for record in records if record["epoch"] == state["epoch"]]
    elif run.config().of(TrainingOptions).select == "best":
        evaluated = [record for record in records if record["eval"] is not None]
        records = sorted(evaluated, key=lambda record: -chosen_by(record))[:1]
    if not records:
        raise UserError(
            f"{run.folder} has no record of the stage {clock.stage} in metrics.jsonl, which says "
            "what its classes weighed; restore it, or leave out --prior (of heads, "
            "logit-adjustment)"
        )
    made = np.asarray(records[-1]["synthetic_counts"], np.float64)
    return replace(clock, epoch=records[-1]["epoch"] - 1, step=clock.steps), made


def wanted_prior(run: Run, wanted: str) -> Shares:
    """Class frequencies by name: [C] float64, of sum 1.

    Args:
        wanted: ``uniform``, ``train`` (the images of each class that the run had), or a file of
            lines ``class,weight``, or of a JSON object of them if it ends in ``.json``.

    Raises:
        UserError: a file that does not give every class of the run a weight.
    """
    manifest = run.manifest()
    if wanted == "uniform":
        weights = np.ones(len(manifest["classes"]))
    elif wanted == "train":
        weights = np.asarray(manifest["train_counts"], np.float64)
    else:
        weights = _of_file(Path(wanted), manifest["classes"])
    shares: Shares = weights / weights.sum()
    return shares


def _of_file(path: Path, classes: list[str]) -> Shares:
    if not path.is_file():
        raise UserError(f"--prior {path}: expected uniform, train, or a file of `class,weight`")
    given = _json(path) if path.suffix.lower() == ".json" else _lines(path)
    if unknown := given.keys() - set(classes):
        raise UserError(f"{path}: {min(unknown)!r} is no class of the run")
    if missing := [name for name in classes if name not in given]:
        raise UserError(
            f"{path}: {len(missing)} of {len(classes)} classes have no weight, first "
            f"{missing[0]!r}; give every class one"
        )
    weights = np.asarray([given[name] for name in classes])
    with np.errstate(over="ignore"):  # what is too large is said below
        total = weights.sum()
    if not 0 < total < math.inf:
        expected = "smaller ones" if total else "more than 0"
        raise UserError(f"{path}: the weights add up to {total:g}; expected {expected}")
    return weights


def _json(path: Path) -> dict[str, float]:
    try:
        values = json.loads(path.read_bytes(), object_pairs_hook=partial(_object, path))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f'{path}: expected an object, {{"class": weight}}')
    return {name: _weight(path, name, value) for name, value in values.items()}


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, which may name nothing twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UserError(f"{path}: class {name!r} has a weight already")
        found[name] = value
    return found


def _lines(path: Path) -> dict[str, float]:
    given: dict[str, float] = {}
    for number, line in read_lines(path):
        fields = next(csv.reader([line], skipinitialspace=True))
        if len(fields) != 2:
            raise UserError(f"{path} line {number}: {line!r}: expected `class,weight`")
        if fields[0] in given:
            raise UserError(f"{path} line {number}: class {fields[0]!r} has a weight already")
        given[fields[0]] = _weight(path, fields[0], fields[1])
    return given


def _weight(path: Path, name: str, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if isinstance(value, bool) or not 0 <= weight < math.inf:
        raise UserError(f"{path}: class {name!r} has weight {value!r}; expected a number >= 0")
    return weight
