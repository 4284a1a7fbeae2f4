"""Heads measured at every value that they are tried at, kept as they finish, and one chosen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.engine.balanced import balanced_accuracy, balanced_accuracy_error
from ltvr.posthoc.catalogue import Head, Logits
from ltvr.posthoc.embeddings import Embeddings, key_of
from ltvr.posthoc.images import Images
from ltvr.runs import files

__all__ = ["Kept", "Measured", "Tried", "measure", "metrics_of"]

ROWS = 10_000
"""Embeddings a batch: logits of more are a lot of memory where there are thousands of classes."""


class Tried(NamedTuple):
    """A head at one value of its hyper-parameter."""

    value: float | None
    choice: float | None
    """Balanced accuracy on the images that values are chosen on; None where nothing is."""
    error: float | None
    """Standard error of ``choice``."""
    metrics: dict[str, Any]
    """On the images that it is judged on, of the head that is fitted to all training images."""


class Measured(NamedTuple):
    """A head at all its values."""

    head: Head
    tried: list[Tried]
    """Empty where the classifier cannot have the head."""
    chosen: Tried | None
    usual: Tried | None
    """At the usual value, where another was chosen."""
    optimum: Tried | None
    """The best on the images that it is judged on themselves, which nobody knows beforehand:
    optimistic."""


class Kept:
    """Results in a file, a line each, so that none is made twice.

    A line that is damaged is none, and its result is made again.

    Args:
        path: of the file.
        identity: what all results depend on besides their own keys.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path, self._identity = path, identity
        self._found: dict[str, dict[str, Any]] = {}
        whole = b""
        if path.exists():
            whole = path.read_bytes()
        for line in whole.split(b"\n"):
            with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
                record = json.loads(line)
                self._found[record["key"]] = record["metrics"]
        if whole and not whole.endswith(b"\n"):  # or the next line would be damaged with it
            files.append(path, "\n")

    def get(self, of: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The metrics kept under the key ``of``, or made now and kept.

        Raises:
            CannotWrite: a disk that is full, read-only or broken.
        """
        key = key_of({**of, "identity": self._identity})
        if key not in self._found:
            self._found[key] = make()
            record = {"head": of["head"], "value": of["value"], "on": of["on"], "key": key}
            files.append(self._path, json.dumps({**record, "metrics": self._found[key]}) + "\n")
        return self._found[key]


class _Model(nn.Module):
    """Logits of embeddings as a module."""

    def __init__(self, logits: Logits) -> None:
        super().__init__()
        self._logits = logits

    def forward(self, embeddings: Tensor) -> Tensor:
        return self._logits(embeddings)


def metrics_of(
    logits: Logits, on: Embeddings, counts: Int64Array, options: DataOptions
) -> dict[str, Any]:
    """Metrics of a head on images, as of ``ltvr.engine.metrics.evaluate``.

    Args:
        counts: [C] training images of each class.
        options: of the images, for many and few.
    """
    from ltvr.engine.metrics import evaluate

    batches = zip(on.embeddings.split(ROWS), on.labels.split(ROWS), strict=True)
    many, few = options.many_above, options.few_below
    return evaluate(_Model(logits), batches, counts, many_above=many, few_below=few)


def measure(
    head: Head, images: Images, counts: Int64Array, options: DataOptions, kept: Kept
) -> Measured:
    """Try a head at its values, and choose the best by balanced accuracy on ``images.choice``.

    Of equals it is the nearest to the usual value, and so it is where there are no such images.

    Args:
        counts: [C] training images of each class.
        options: of the images, for many and few.
        kept: where finished results are, and go.

    Raises:
        UserError: too few images, or a head whose training diverges.
    """
    if head.fit is None:
        return Measured(head, [], None, None, None)
    tried = [_try(head, value, images, counts, options, kept) for value in head.values]
    if len(tried) == 1:
        return Measured(head, tried, tried[0], None, None)
    chosen = _best(tried, head.usual, lambda each: each.choice or 0.0)
    optimum = _best(tried, head.usual, lambda each: balanced_accuracy(each.metrics["per_class"]))
    usual = (each for each in tried if each.value == head.usual and each is not chosen)
    return Measured(head, tried, chosen, next(usual, None), optimum)


def _try(
    head: Head,
    value: float | None,
    images: Images,
    counts: Int64Array,
    options: DataOptions,
    kept: Kept,
) -> Tried:
    fit = head.fit
    assert fit is not None

    @cache
    def fitted(whole: bool) -> Logits:
        return fit(images.train if whole else images.fitted, value)

    def found(on: Embeddings, whole: bool) -> dict[str, Any]:
        return metrics_of(fitted(whole), on, counts, options)

    seen = {k: v for k, v in images.described.items() if k != "views" or head.trained}
    of = {"head": head.name, "value": value, "options": head.options, "images": seen}
    choice = error = None
    if len(head.values) > 1 and len(images.choice.labels):
        whole = images.fitted is images.train
        on_choice = kept.get({**of, "on": "choice"}, lambda: found(images.choice, whole))
        per_class = on_choice["per_class"]
        choice = balanced_accuracy(per_class)
        own = np.bincount(images.choice.labels.numpy(), minlength=len(per_class))
        error = balanced_accuracy_error(per_class, own)
    metrics = kept.get({**of, "on": options.judged_on}, lambda: found(images.test, True))
    return Tried(value, choice, error, metrics)


def _best(tried: list[Tried], usual: float, by: Callable[[Tried], float]) -> Tried:
    """The best, and of equals the nearest to the usual value, then the lowest."""
    best = max(map(by, tried))
    equal = [each for each in tried if by(each) == best]
    return min(equal, key=lambda each: (abs((each.value or 0.0) - usual), each.value or 0.0))
