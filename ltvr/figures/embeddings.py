"""Figure 4: what the classifier reads of test images, in two dimensions, and how apart it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ltvr.data.longtail import Int64Array
from ltvr.engine.source import Source, load_source
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError, shown
from ltvr.figures.plot import Plot
from ltvr.figures.style import INK, axes, colour, styled

__all__ = ["Apart", "LabelledEmbeddings", "draw_embeddings", "embed", "how_apart"]

MARKERS = "o^sDvP"
"""One for each round through the colours."""
CLASSES_TO_NAME = 20
"""Of more classes the legend would be all there is."""


class LabelledEmbeddings(NamedTuple):
    """Images as a network embeds them."""

    embeddings: npt.NDArray[np.float32]
    """[n, E], what the classifier reads."""
    labels: Int64Array
    """[n]."""


class Apart(NamedTuple):
    """How far the classes are from each other, in Euclidean distances."""

    silhouette: float
    """-1 to 1, the mean over the images (Rousseeuw, 1987)."""
    within: float
    """Mean over the classes of the mean distance of an image from the mean of its class."""
    between: float
    """Mean distance of the means of two classes."""


def embed(path: Path, source: Source, device: str = "auto") -> LabelledEmbeddings:
    """Embed the images of a source by the weights of a run.

    Args:
        path: a run folder, or a checkpoint in it: ``features.pt`` for the first stage.

    Raises:
        UserError: as ``load_trained`` and ``load_source``.
    """
    trained = load_trained(path, device)
    split = load_source(source, trained.run, trained.config)
    batches = trained.batches(split)
    found = [trained.outputs(images).embeddings.numpy() for images, _ in batches]
    return LabelledEmbeddings(np.concatenate(found), split.labels)


def how_apart(points: npt.NDArray[Any], labels: Int64Array) -> Apart:
    """Measure how far apart the classes of points are.

    Args:
        points: [n, E].
        labels: [n], of at least two classes, and fewer than n.
    """
    from sklearn.metrics import silhouette_score  # two seconds

    points = points.astype(np.float64)
    classes = np.unique(labels)
    means = np.stack([points[labels == k].mean(0) for k in classes])
    within = [
        np.linalg.norm(points[labels == k] - mean, axis=1).mean()
        for k, mean in zip(classes, means, strict=True)
    ]
    pairs = np.triu_indices(len(classes), 1)
    between = np.linalg.norm(means[pairs[0]] - means[pairs[1]], axis=1).mean()
    return Apart(float(silhouette_score(points, labels)), float(np.mean(within)), float(between))


@styled
def draw_embeddings(
    networks: Mapping[str, LabelledEmbeddings],
    classes: list[str],
    *,
    most: int = 3000,
) -> Plot:
    """Fig. 4: t-SNE (van der Maaten and Hinton, 2008) of the same images, a panel a network.

    ``measures`` has silhouette and distances of each network, of its embeddings and of the map
    alike. Distances of two networks have different units: their ratio, within to between, has none.

    Args:
        networks: by the name over its panel.
        classes: [C] names.
        most: images in all; of more, the first of each class, as many of each.

    Raises:
        UserError: fewer than two classes, or fewer than four images of them.
    """
    from sklearn.manifold import TSNE

    figure, panels = axes(len(networks), width=4.2, height=4.2)
    points: list[dict[str, Any]] = []
    measures: list[dict[str, Any]] = []
    notes = []
    for axis, (name, found) in zip(panels[0], networks.items(), strict=True):
        chosen = _chosen(shown(name), found.labels, most)
        labels = found.labels[chosen]
        perplexity = min(30.0, (len(labels) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
        flat = tsne.fit_transform(found.embeddings[chosen])
        for space, at in (("embeddings", found.embeddings[chosen]), ("map", flat)):
            apart = how_apart(at, labels)
            row = {"network": name, "space": space, "images": len(labels)}
            row |= {each: f"{value:.4f}" for each, value in apart._asdict().items()}
            measures.append(row | {"within_to_between": f"{apart.within / apart.between:.4f}"})
            notes.append(
                f"{shown(name)}, {space}: silhouette {apart.silhouette:.3f}, within classes "
                f"{apart.within:.3f}, between {apart.between:.3f}, ratio "
                f"{apart.within / apart.between:.3f}; {len(labels)} images"
            )
            if space == "embeddings":
                axis.set_title(f"{shown(name)}\nsilhouette {apart.silhouette:.3f}")
        _scatter(axis, flat, labels)
        for image, label, (x, y) in zip(chosen, labels, flat, strict=True):
            row = {"network": name, "image": int(image), "class": classes[label]}
            points.append(row | {"x": f"{x:.4f}", "y": f"{y:.4f}"})
    if len(classes) <= CLASSES_TO_NAME:
        handles = [
            Line2D([], [], ls="", label=shown(each), **_mark(k)) for k, each in enumerate(classes)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(classes), 6))
    return Plot(figure, {"": points, "measures": measures}, notes)


def _chosen(name: str, labels: Int64Array, most: int) -> Int64Array:
    """Positions of at most ``most`` images, the first of each class."""
    classes = np.unique(labels)
    if len(classes) < 2 or len(labels) < 4 or len(labels) == len(classes):
        raise UserError(
            f"{name}: {len(labels)} images of {len(classes)} classes; expected at least 2 classes, "
            "and more images than classes"
        )
    each = max(most // len(classes), 2)
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:each] for k in classes]))


def _scatter(axis: Axes, flat: npt.NDArray[Any], labels: Int64Array) -> None:
    for k in np.unique(labels).tolist():
        x, y = flat[labels == k].T
        axis.plot(x, y, ls="", **_mark(k), ms=2.5, rasterized=True)
    axis.set(xticks=[], yticks=[])
    axis.set_aspect("equal", adjustable="datalim")  # panels of one height, whatever is on them
    axis.spines[:].set_visible(False)


def _mark(k: int) -> dict[str, Any]:
    """Colour and shape of a class."""
    marker = MARKERS[k // 6 % len(MARKERS)]
    return {"marker": marker, "color": colour(k), "mec": "none" if k < 6 else INK, "mew": 0.3}
