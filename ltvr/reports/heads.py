"""Tables of the heads of a run: as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltvr.data.holdout import described
from ltvr.data.options import DataOptions
from ltvr.engine.accuracy_table import cells, columns, heading, table
from ltvr.engine.balanced import balanced_accuracy
from ltvr.engine.trained import Trained
from ltvr.errors import by_reason
from ltvr.posthoc.embeddings import Embeddings
from ltvr.posthoc.images import Images
from ltvr.posthoc.measure import Measured, Tried, metrics_of
from ltvr.reports.numbers import number

__all__ = ["as_csv", "as_json", "as_markdown", "as_text", "notes"]

NOTHING: dict[str, Any] = dict.fromkeys(columns("hold-out"))
"""The metrics of a head that the classifier cannot have."""


def optimum_of(judged_on: str) -> str:
    """The name of the row of a head at its best on the images that it is judged on."""
    return f"{judged_on} optimum, optimistic"


class Row(NamedTuple):
    """A row of the table: a head at a value of its hyper-parameter."""

    title: str
    head: str
    parameter: str
    value: float | None
    kind: str
    """``chosen``, ``usual``, ``optimum_of``, or ``n/a``."""
    choice: float | None
    metrics: dict[str, Any]


def _rows(heads: list[Measured], judged_on: str) -> Iterator[Row]:
    best = optimum_of(judged_on)
    for head, _, chosen, usual, optimum in heads:
        parameter = head.parameter
        if chosen is None:
            yield Row(head.title, head.name, parameter, None, "n/a", None, NOTHING)
            continue
        for kind, each in (("chosen", chosen), ("usual", usual), (best, optimum)):
            if each is not None:
                at = f", {parameter} = {each.value:g}" if parameter else ""
                end = "" if kind == "chosen" else f" ({kind})"
                yield Row(
                    f"{head.title}{at}{end}", head.name, parameter, each.value, kind,
                    each.choice, each.metrics,
                )  # fmt: skip


def _reasons(heads: list[Measured]) -> list[str]:
    """Why rows are n/a, a line each."""
    found = by_reason((each.head.title, each.head.reason) for each in heads if not each.tried)
    return [f"{'; '.join(titles)}: n/a, {reason}." for reason, titles in found.items()]


def as_text(heads: list[Measured], judged_on: str) -> str:
    """The table for a terminal."""
    return table({row.title: row.metrics for row in _rows(heads, judged_on)}, judged_on)


def as_markdown(name: str, heads: list[Measured], notes: list[str], judged_on: str) -> str:
    """The table of the weights of this name, and under it what a reader should know of it."""
    shown = columns(judged_on)
    rows = [(row.title, cells(row.metrics, judged_on)) for row in _rows(heads, judged_on)]
    lines = [
        f"| {name}: {heading(judged_on)} | {' | '.join(shown.values())} |",
        f"|---|{'--:|' * len(shown)}",
        *(f"| {title} | {' | '.join(each)} |" for title, each in rows),
        "",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def as_csv(heads: list[Measured], judged_on: str) -> str:
    """A line a row (RFC 4180): in percent, with four digits; empty where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = list(columns(judged_on))
    writer.writerow(["head", "parameter", "value", "kind", "choice_balanced", *names])
    for row in _rows(heads, judged_on):
        numbers = [row.choice, *(row.metrics[name] for name in names)]
        value = "" if row.value is None else f"{row.value:g}"
        writer.writerow([row.head, row.parameter, value, row.kind, *map(number, numbers)])
    return text.getvalue()


def as_json(heads: list[Measured], judged_on: str) -> list[dict[str, Any]]:
    """Every head with all values that it was tried at."""
    return [
        {
            "head": each.head.name,
            "title": each.head.title,
            "parameter": each.head.parameter or None,
            "reason": each.head.reason or None,
            "chosen": _as_json(each.chosen),
            "usual": _as_json(each.usual),
            optimum_of(judged_on): _as_json(each.optimum),
            "tried": [_as_json(one) for one in each.tried] if each.optimum else [],
        }
        for each in heads
    ]


def _as_json(tried: Tried | None) -> dict[str, Any] | None:
    if tried is None:
        return None
    return {
        "value": tried.value,
        "choice_balanced": tried.choice,
        "choice_standard_error": tried.error,
        "metrics": tried.metrics,
    }


def notes(trained: Trained, path: Path, images: Images, found: list[Measured]) -> list[str]:
    """What a reader of the table should know, a line each."""
    lines, plain = _reasons(found), ""
    options = trained.config.of(DataOptions)
    if options.holdout:
        said = described(options, trained.run.manifest()["holdout"]["counts"])
        lines.append(f"{said[0].upper()}{said[1:]}.")
    own = trained.run.config().effective()
    if own.get("tde"):
        plain = " --no-tde"
        lines.append(
            f"The run itself is evaluated by TDE at alpha = {own['tde_alpha']:g}; here the row TDE "
            "alone is. The others are of plain logits, and heads that are trained are tested so."
        )
    fitted = {each.head.name: each for each in found if each.tried}
    if any(each.usual for each in fitted.values()):
        lines.append("Usual: the value of the publications, where another was chosen.")
    if any(each.optimum for each in fitted.values()):
        lines += _choosing(trained, images)
    if training := [name for name, each in fitted.items() if each.head.trained]:
        views = images.described["views"]
        seen = f"each in {views} augmented view{'s' * (views > 1)}"
        lines.append(
            f"Trained heads: {len(images.train.labels)} training images, "
            f"{seen if views else 'each as inference sees it'}; BatchNorm of the backbone has its "
            "running statistics. The exact counterparts, with each draw augmented anew and "
            f"BatchNorm as the stage's own option has it: `--stages {'|'.join(training)} --from "
            f"RUN/{path.name}{plain}`."
        )
    if "logit-adjustment" in fitted:
        lines.append(
            "Logit adjustment: by the class frequencies of the epoch of the weights, with what was "
            "generated and the weights of the loss, as `predict --prior`."
        )
    if any(name.startswith("ncm") for name in fitted):
        lines.append("NCM: the ECE is that of a softmax over minus the squared distances.")
    return lines


def _choosing(trained: Trained, images: Images) -> list[str]:
    """On which images values were chosen, and what that is worth."""
    chosen, judged_on = images.described, trained.config.of(DataOptions).judged_on
    optimum = (
        f"{judged_on.capitalize()} optimum: the value that is best on the {judged_on} images "
        "themselves. Nobody knows it beforehand; it is no result."
    )
    by, number = "the best by balanced accuracy", chosen["images"]
    if not images.seen:
        which = "the one validation image" if number == 1 else f"the {number} validation images"
        return [f"Values: chosen on {which}, {by}.", optimum]
    if not number:
        return [
            "Values: the usual ones, and not chosen; every class has one training image alone, and "
            "none to choose on.",
            optimum,
        ]
    held = np.bincount(images.choice.labels.numpy(), minlength=len(trained.classes))
    short, none = int((held < chosen["per_class"]).sum()), int((held == 0).sum())
    few = f" ({short} of {len(held)} classes {_has(short)} fewer)" if short else ""
    classes = "class" if none == 1 else "classes"
    absent = f" {none} {classes} {_has(none)} one image alone, and no part in it." if none else ""
    return [
        f"Values: chosen on {number} of the training images, {by}: of each class "
        f"{chosen['per_class']}, but at most half of it{few}; heads are not fitted to them "
        f"meanwhile.{absent} The features were trained on them, though: where they are known by "
        "heart, they say little. The stage's own classifier is right on "
        f"{_of_joint(trained, images.choice):.1f} % of them, and on "
        f"{_of_joint(trained, images.test):.1f} % of the {judged_on} images (both balanced).",
        optimum,
    ]


def _has(number: int) -> str:
    return "has" if number == 1 else "have"


def _of_joint(trained: Trained, images: Embeddings) -> float:
    """Balanced accuracy of the classifier of the first stage."""
    counts = np.asarray(trained.run.manifest()["train_counts"], np.int64)
    options = trained.config.of(DataOptions)
    metrics = metrics_of(trained.network.classifier, images, counts, options)
    return balanced_accuracy(metrics["per_class"])
