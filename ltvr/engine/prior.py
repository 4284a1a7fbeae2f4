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
from ltvr.errors import UserError
from ltvr.runs.folder import Run
from ltvr.samplers.base import Shares
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["adjustment", "trained_prior", "wanted_prior"]


def adjustment(run: Run, stage: str, wanted: str) -> Tensor:
    """What is added to the logits of a stage for the class frequencies ``wanted``: [C] float32.

    Args:
        wanted: of ``wanted_prior``.

    Raises:
        UserError: as ``trained_prior`` and ``wanted_prior``.
    """
    with np.errstate(divide="ignore"):  # a class that is ruled out has the logit -inf
        shift = np.log(wanted_prior(run, wanted)) - np.log(trained_prior(run, stage))
    return torch.from_numpy(shift).float()


def trained_prior(run: Run, stage: str) -> Shares:
    """Class frequencies that the logits are under after a stage: [C] float64, of sum 1.

    How much of the loss each class was in its last epoch, from what the sampler gives, the samples
    that were generated, and the loss's weights by class; less what the loss added to the logits.

    Raises:
        UserError: the run has no record of the stage.
    """
    config = run.config()
    described, training = stages_of(config)[stage], config.of(TrainingOptions)
    counts = np.asarray(run.manifest()["train_counts"], np.int64)
    records = [record for record in run.records() if record["stage"] == stage]
    if described.epochs and not records:
        raise UserError(
            f"{run.folder} has no record of the stage {stage} in metrics.jsonl, which says what "
            "its classes weighed; restore it, or leave out --prior (of heads, logit-adjustment)"
        )
    epoch = records[-1]["epoch"] - 1 if records else 0
    generated = records[-1]["synthetic_counts"] if records else [0] * len(counts)

    loss = described.build_loss(torch.from_numpy(counts))
    steps = int(counts.sum()) // training.batch_size
    clock = Clock(config.of(RunOptions).seed, stage, described.epochs, steps, training.accumulate)
    loss.begin_epoch(replace(clock, epoch=epoch))
    classes = torch.arange(len(counts))
    weights = loss.weights(classes).double().numpy()

    shares = described.sampler.shares(counts, epoch, max(described.epochs, 1))
    real = shares * steps * training.batch_size if steps else shares
    trained = described.class_shares(real * weights, np.asarray(generated, np.float64) * weights)
    prior: Shares = trained / np.exp(loss.offsets(classes).double().numpy())
    prior /= prior.sum()
    return prior


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
