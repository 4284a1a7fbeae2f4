"""``report.html``: one self-contained page with what a person looks at after a run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.engine.accuracy_table import SUBSETS, cells, columns, heading
from ltvr.engine.trained import Trained, load_trained
from ltvr.errors import shown
from ltvr.figures.pixels import shown_pixels
from ltvr.figures.style import QUIET, bars, styled
from ltvr.reports.html import drawing, render, short
from ltvr.reports.protocol import findings
from ltvr.runs import files
from ltvr.runs.folder import Run
from ltvr.runs.forms import check
from ltvr.stages import STAGES

__all__ = ["named_stages", "write_report"]

CLASSES_TO_LIST = 100
"""Rows of the table of classes; the largest have one."""
PAGE = """
<table><tr><th>{{ top_1 }}</th>{% for h in heads %}<th>{{ h }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr><td>{{ name }}</td>
{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</table>
{% for note in notes %}<p>{{ note }}</p>{% endfor %}
<h2>Protocol</h2><p>What this run does otherwise than the field, and whether its numbers can be
compared with published ones.</p>
<table class="text"><tr><th>check</th><th>this run</th><th>the field</th><th>comparable</th></tr>
{% for check, found, field, comparable in protocol %}<tr><td>{{ check }}</td><td>{{ found }}</td>
<td>{{ field }}</td><td>{{ comparable }}</td></tr>{% endfor %}</table>
{% for heading, caption, image in figures %}
<h2>{{ heading }}</h2><p>{{ caption }}</p>
{{ image }}
{% endfor %}
<h2>Classes</h2><p>By falling number of training images, with top-1 on the {{ judged_on }} images in
percent.
{% if more %}{{ more }} more classes are left out here.{% endif %}</p>
<table><tr><th>class</th><th>training images</th>{% for h in stages %}<th>{{ h }}</th>{% endfor %}
</tr>
{% for name, cells in classes %}<tr><td>{{ name }}</td>
{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}</table>
<h2>Configuration</h2><pre>{{ config }}</pre>
<h2>Environment</h2><pre>{{ environment }}</pre>
"""


def write_report(run: Run, data: Data | None) -> None:
    """Write ``report.html`` of a finished run from its files.

    Args:
        data: the run's images, for the masks; None leaves them out, and the page says so.

    Raises:
        UserError: the run is not finished.
    """
    summary, config, described = run.read_summary(), run.config(), run.manifest()
    metrics, counts = summary["metrics"], np.asarray(described["train_counts"])
    judged_on = config.of(DataOptions).judged_on
    check(described.get("unreadable", {}), {str: dict}, run.folder / "manifest.json", "unreadable")
    notes = [_images(described)]
    if data is None:
        notes.append("The images of this run were not at hand: the masks are left out.")
    environments = summary["environment"], *reversed(summary.get("earlier_environments", []))
    name = shown(f"{config.of(RunOptions).method} on {config.of(DataOptions).dataset}")
    page = render(
        PAGE,
        title=f"{name}, seed {summary['seed']}",
        top_1=heading(judged_on),
        judged_on=judged_on,
        heads=list(columns(judged_on).values()),
        rows=[(name, cells(m, judged_on)) for name, m in named_stages(metrics).items()],
        stages=list(named_stages(metrics)),
        classes=_classes(metrics, described["classes"], counts),
        more=max(len(counts) - CLASSES_TO_LIST, 0),
        notes=notes,
        protocol=[each.cells for each in findings(config, described, metrics)],
        figures=[(h, c, drawing(f)) for h, c, f in _figures(run, metrics, counts, judged_on, data)],
        config=(run.folder / "config.yaml").read_text(encoding="utf-8"),
        environment="\nbefore that:\n".join(json.dumps(each, indent=1) for each in environments),
    )
    files.write(run.report, page)


def _figures(
    run: Run, metrics: dict[str, Any], counts: np.ndarray, judged_on: str, data: Data | None
) -> list[tuple[str, str, Figure]]:
    """Heading, caption and drawing of each figure.

    Loss and accuracy by epoch; accuracy by class against class count; class counts original,
    synthetic and mixed (the paper's Fig. 2, 5, 6); confusion matrix; masks of the trained network.
    """
    records, final = run.records(), list(metrics.values())[-1]
    figures = [
        ("Training", "Loss and accuracy by epoch, stage after stage.", _curves(records)),
        (
            "Accuracy by class",
            f"Per-class top-1 on the {judged_on} images, classes by falling number of training "
            "images.",
            _per_class(metrics, counts),
        ),
        (
            "Class counts",
            "Training images (Fig. 2), synthetic samples of the last epoch that made any (Fig. "
            "5) and both together (Fig. 6), classes by falling number of training images.",
            _counts(records, counts),
        ),
    ]
    if "confusion" in final:
        figures.append(("Confusion", "Rows: true class. Row-normalised.", _confusion(final)))
    trained = load_trained(run.folder) if data is not None else None
    if data is not None and trained is not None and trained.network.decomposition is not None:
        rarest = _rarest(data)
        caption = (
            f"{judged_on.capitalize()} images of the rarest classes, and what the decomposition "
            "takes for class-related (in AFA the mask of eq. 3): its strongest channel by "
            f"position. Classes and training images: {_named(data, rarest)}."
        )
        figures.append(("Masks", caption, _masks(trained, data, rarest)))
    return figures


def named_stages(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name the stages of a summary's metrics as a table shows them."""
    return {STAGES.get(stage).title: values for stage, values in metrics.items()}


def _images(described: dict[str, Any]) -> str:
    """How many images the splits of a manifest have, and how many were skipped."""
    skipped = {name: len(paths) for name, paths in described.get("unreadable", {}).items()}
    number = "; ".join(f"{name} {split['images']}" for name, split in described["splits"].items())
    left_out = ", ".join(f"{name} {n}" for name, n in skipped.items()) or "none"
    return f"Images: {number}. Skipped because they cannot be read: {left_out}."


def _classes(
    metrics: dict[str, Any], classes: list[str], counts: np.ndarray
) -> list[tuple[str, list[str]]]:
    """Rows of a table of the largest classes: name, training images, top-1 after each stage."""
    rows = []
    for k in np.argsort(-counts, kind="stable")[:CLASSES_TO_LIST].tolist():
        accuracies = [values["per_class"][k] for values in metrics.values()]
        cells = ["n/a" if value is None else f"{value:.2f}" for value in accuracies]
        rows.append((short(classes[k]), [str(counts[k]), *cells]))
    return rows


@styled
def _curves(records: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(10, 3.6))
    loss, accuracy = figure.subplots(1, 2)
    at = np.arange(1, len(records) + 1)
    for axis, what in ((loss, "loss"), (accuracy, "accuracy")):
        for kind in ("real", "synthetic"):
            values = [np.nan if (v := r[f"{kind}_{what}"]) is None else v for r in records]
            if not np.isnan(values).all():
                axis.plot(at, values, label=f"{kind}, training")
    evaluated = np.array([r["eval"] is not None for r in records], bool)
    measured = [r["eval"] for r in records if r["eval"] is not None]
    for shot in SUBSETS:
        values = [np.nan if (v := metrics[shot]) is None else v for metrics in measured]
        if not np.isnan(values).all():
            label = f"{shot}, {records[0]['evaluated_on']}"
            accuracy.plot(at[evaluated], values, label=label, ls="--")
    begins = [i for i in range(1, len(records)) if records[i]["stage"] != records[i - 1]["stage"]]
    for axis, name in ((loss, "mean loss"), (accuracy, "top-1, %")):
        for first in begins:
            axis.axvline(first + 0.5, color=QUIET, lw=1)
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axis.lines:
            axis.legend(fontsize=7)
    return figure


@styled
def _per_class(metrics: dict[str, Any], counts: np.ndarray) -> Figure:
    figure = Figure(figsize=(10, 3.6))
    axis = figure.subplots()
    order = np.argsort(-counts, kind="stable")
    for name, values in named_stages(metrics).items():
        per_class = [np.nan if (v := values["per_class"][k]) is None else v for k in order]
        axis.plot(per_class, marker="o" if len(order) <= 50 else "", label=name)
    axis.set(xlabel="class, by falling training images", ylabel="top-1, %", ylim=(0, 100))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    images = axis.twinx()
    bars(images, counts[order], color=QUIET, alpha=0.35, zorder=0)
    images.set(ylabel="training images")
    axis.set_zorder(images.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.legend(fontsize=8)
    return figure


@styled
def _counts(records: list[dict[str, Any]], counts: np.ndarray) -> Figure:
    figure = Figure(figsize=(10, 3.2))
    axes = figure.subplots(1, 3, sharey=True)
    made = [r["synthetic_counts"] for r in records if any(r["synthetic_counts"])]
    synthetic = np.asarray(made[-1]) if made else np.zeros_like(counts)
    order = np.argsort(-counts, kind="stable")
    shown = (("original", counts), ("synthetic", synthetic), ("mixed", counts + synthetic))
    for axis, (name, values) in zip(axes, shown, strict=True):
        bars(axis, values[order])
        low = values.min()
        ratio = f", ratio {values.max() / low:.1f}" if low else ""
        axis.set(title=f"{name}, {values.sum():,}{ratio}", xlabel="class")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(ylabel="samples")
    return figure


@styled
def _confusion(metrics: dict[str, Any]) -> Figure:
    matrix = np.asarray(metrics["confusion"], float)
    matrix /= np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(5, 4.4))
    axis = figure.subplots()
    shown = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(shown)
    return figure


def _rarest(data: Data, number: int = 8) -> list[int]:
    """The classes with the fewest training images, of those that have an image to judge by."""
    tested = np.unique(data.test.labels)
    order = np.argsort(data.counts[tested], kind="stable")
    return [int(k) for k in tested[order][:number]]


def _named(data: Data, classes: list[int]) -> str:
    """Classes by number and name, with their training images.

    Names stand in the text of the page alone: a browser shows any script, the fonts of the figures
    few, and there a $ would begin a formula.
    """
    return ", ".join(f"{k} «{short(data.classes[k])}» {data.counts[k]}" for k in classes)


@styled
@torch.no_grad()
def _masks(trained: Trained, data: Data, rarest: list[int]) -> Figure:
    """Of each of the ``rarest`` classes one image that the run is judged on, over its mask."""
    labels = data.test.labels
    chosen = np.asarray([np.flatnonzero(labels == k)[0] for k in rarest])
    images, _ = next(trained.batches(data.test.take(chosen), len(chosen)))
    with trained.autocast():
        masks = trained.network.masks(images)
    masks = masks.float().amax(1, keepdim=True)
    masks = F.interpolate(masks, size=images.shape[2:], mode="bilinear").cpu()[:, 0]
    pixels = shown_pixels(images, trained.config)
    figure = Figure(figsize=(1.5 * len(chosen), 3.2))
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, (k, image, mask) in enumerate(zip(rarest, pixels, masks.numpy(), strict=True)):
        axes[0, column].imshow(image)
        axes[1, column].imshow(image)
        axes[1, column].imshow(mask, cmap="magma", alpha=0.6)
        axes[0, column].set_title(f"class {k}", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure
