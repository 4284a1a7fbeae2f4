"""The heads that a finished first stage can have, each with the values that it is tried at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ltvr.classifiers._normalised import Normalised, NormalisedOptions
from ltvr.classifiers.linear import Linear
from ltvr.config.config import Config
from ltvr.engine.prior import trained_prior
from ltvr.engine.trained import Trained
from ltvr.posthoc.closed_form import Form, adjusted, nearest_mean, tau_normalised
from ltvr.posthoc.embeddings import Embeddings
from ltvr.posthoc.training import train_classifier
from ltvr.runs.origin import not_compared
from ltvr.stages import STAGES
from ltvr.stages.base import ClassifierStage

__all__ = ["Head", "heads_of", "longest_training", "names", "trained_names"]

Logits = Callable[[Tensor], Tensor]
"""Embeddings [R, E] to logits [R, C]."""
TAUS = tuple(step / 10 for step in range(21))
"""0 to 2 in steps of 0.1, as in the code of Kang et al., ICLR 2020."""
ALPHAS = tuple(step / 4 for step in range(21))
"""0 to 5; published are 1 on CIFAR-10-LT, 1.5 on CIFAR-100-LT and 3 on ImageNet-LT."""
EVEN = 1e-6
"""Class frequencies that differ by no larger share are even: of float32's rounding."""


@dataclass(frozen=True)
class Head:
    """One way from embeddings to logits.

    Attributes:
        name: in files and on the command line.
        title: in tables.
        fit: makes it of the training images and a value of its hyper-parameter.
        parameter: the name of that; "" where there is none.
        values: that are tried.
        usual: the value that is published; where values are equally good, the nearest to it.
        options: what the result depends on besides, by name.
        trained: whether it is, by a stage.
        reason: why the classifier cannot have this head; "" where it can.
    """

    name: str
    title: str
    fit: Callable[[Embeddings, float | None], Logits] | None
    parameter: str = ""
    values: tuple[float | None, ...] = (None,)
    usual: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    trained: bool = False
    reason: str = ""


def trained_names() -> tuple[str, ...]:
    """Names of the heads that are trained: the stages that train the classifier alone."""
    return tuple(name for name in STAGES.names() if issubclass(STAGES.get(name), ClassifierStage))


def longest_training(config: Config) -> int:
    """Epochs of the longest training of a head, whichever are wanted: all see the same views."""
    return max(STAGES.get(name)(config).epochs for name in trained_names())


def names() -> tuple[str, ...]:
    """Names of all heads, in the order of the table."""
    means = (f"ncm-{form}" for form in get_args(Form))
    closed = ("joint", *means, "tau-norm", "tau-norm-bias", "logit-adjustment", "tde")
    return (*closed, *trained_names())


def heads_of(
    trained: Trained,
    weights: Path,
    config: Config,
    chosen: tuple[str, ...],
    lr_factors: tuple[float, ...],
) -> list[Head]:
    """The heads of a network whose features are trained, in the order of ``names``.

    Args:
        trained: whose classifier gives its plain logits, without TDE.
        weights: the checkpoint that it is from.
        config: of the run, with other options of the stages that train a classifier.
        chosen: the names of those that are wanted.
        lr_factors: on the learning rates of the heads that are trained.

    Raises:
        UserError: options that do not fit together, or a run without the records that say what its
            classes weighed.
    """
    made = {**_of_means(trained), **_of_the_classifier(trained)}
    if "logit-adjustment" in chosen:
        made["logit-adjustment"] = _logit_adjustment(trained, weights)
    for name in trained_names():
        if name in chosen:
            made[name] = _trained(name, trained, config, lr_factors)
    return [made[name] for name in names() if name in chosen]


def _of_means(trained: Trained) -> dict[str, Head]:
    classes = len(trained.classes)

    def fit(form: Form, train: Embeddings, value: float | None) -> Logits:
        return partial(
            nearest_mean, train=train.embeddings, labels=train.labels, classes=classes, form=form
        )

    forms: tuple[Form, ...] = get_args(Form)
    return {f"ncm-{f}": Head(f"ncm-{f}", f"NCM, {f}", partial(fit, f)) for f in forms}


def _of_the_classifier(trained: Trained) -> dict[str, Head]:
    """The heads that the classifier of the first stage gives without training."""
    classifier = trained.network.classifier
    heads = [Head("joint", "joint (stage 1)", lambda train, value: classifier)]

    kind = type(classifier).__name__
    dropped, kept, why = None, None, ""
    if isinstance(classifier, Linear):
        dropped = partial(_tau_norm, classifier.weight, None)
        bias = dict(classifier.named_parameters()).get("bias")
        if bias is not None:
            kept = partial(_tau_norm, classifier.weight, bias)
        else:
            why = "the classifier has no bias"
    else:
        why = f"the logits of {kind} are not <w, x> + b with weights of any length"
    heads += [
        Head("tau-norm", "tau-norm", dropped, "tau", TAUS, reason="" if dropped else why),
        Head("tau-norm-bias", "tau-norm, bias kept", kept, "tau", TAUS, reason=why),
    ]

    if isinstance(classifier, Normalised) and classifier.moving_feature is not None:
        usual = trained.config.of(NormalisedOptions).tde_alpha
        alphas = tuple(sorted({*ALPHAS, usual}))
        heads.append(Head("tde", "TDE", partial(_tde, classifier), "alpha", alphas, usual))
    else:
        heads.append(Head("tde", "TDE", None, reason=f"{kind} has kept no moving feature"))
    return {head.name: head for head in heads}


def _tau_norm(weight: Tensor, bias: Tensor | None, train: Embeddings, tau: float | None) -> Logits:
    assert tau is not None
    return partial(tau_normalised, weight=weight, tau=tau, bias=bias)


def _tde(classifier: Normalised, train: Embeddings, alpha: float | None) -> Logits:
    assert alpha is not None
    return partial(classifier.tde_logits, alpha=alpha)


def _logit_adjustment(trained: Trained, weights: Path) -> Head:
    """By the class frequencies that the logits are under, as ``predict --prior``.

    They are even where the loss has adjusted the logits already, or sampler or weights have: to
    adjust by the training counts again would be to do so twice.
    """
    prior = trained_prior(trained.run, weights)
    name, title = "logit-adjustment", "logit adjustment"
    if np.ptp(prior) <= EVEN * prior.max():
        why = "the logits are under even class frequencies already"
        return Head(name, title, None, "tau", reason=why)
    classifier, shares = trained.network.classifier, torch.from_numpy(prior).to(trained.device)

    def fit(train: Embeddings, tau: float | None) -> Logits:
        assert tau is not None
        return lambda embeddings: adjusted(classifier(embeddings), shares, tau)

    return Head(name, title, fit, "tau", TAUS, options={"prior": prior.tolist()})


def _trained(name: str, trained: Trained, config: Config, lr_factors: tuple[float, ...]) -> Head:
    """The classifier of a stage that trains it alone."""
    config = config.replaced(stages=(name,), amp="none")
    title, classifier = STAGES.get(name).title, trained.network.classifier
    classes = len(trained.classes)

    def fit(train: Embeddings, factor: float | None) -> Logits:
        return train_classifier(config, classifier, train, classes, factor or 1.0)

    passed_over = not_compared(config)
    options = {k: v for k, v in config.effective().items() if k not in passed_over}
    parameter = "lr factor" if lr_factors != (1.0,) else ""
    return Head(name, title, fit, parameter, lr_factors, options=options, trained=True)
