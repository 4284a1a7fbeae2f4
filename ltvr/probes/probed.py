"""All probes of one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltvr.clock import stream
from ltvr.config.run import RunOptions
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.data.splits import Data
from ltvr.engine.trained import Trained
from ltvr.networks.weights import digest
from ltvr.probes.apart import apart
from ltvr.probes.distances import distances
from ltvr.probes.frozen import frozen
from ltvr.probes.head import head
from ltvr.probes.history import history
from ltvr.probes.images import probe_images, usual_number
from ltvr.probes.lines import Section, Subsets
from ltvr.probes.mask import mask
from ltvr.probes.neighbours import neighbours
from ltvr.probes.parts import parts
from ltvr.probes.rows import Generated, classes_of, generated_rows, real_rows, shape_of_features
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["Probed", "Sizes", "probe"]

MOST_BYTES = 2_000_000_000
"""Of the head's inputs of the training images, unless so many images are asked for."""


class Sizes(NamedTuple):
    """How much is looked at."""

    neighbours: int
    """k."""
    batches: int
    """That rows are generated from, at most."""
    images: int | None
    """Training images that stand for all; None for as many as ``MOST_BYTES`` hold."""
    balanced_images: int | None
    """Of each class, for linear probes, at most; None for ``usual_number``."""


class Probed(NamedTuple):
    """What the probes found of one run."""

    name: str
    """For tables."""
    weights: Path
    described: dict[str, Any]
    """What was looked at, in terms of JSON."""
    notes: list[str]
    """The same in words, a line each."""
    sections: list[Section]


def probe(
    trained: Trained,
    weights: Path,
    stage: str,
    data: Data,
    sizes: Sizes,
    name: str,
    say: Callable[[str], None],
) -> Probed:
    """Run all probes on a run's features; those of generated rows where it generates any.

    Args:
        weights: the file of those of ``trained``.
        stage: that trained them.
        data: of the run.
        name: of the run, for tables.
        say: what prints a line.

    Raises:
        UserError: images that cannot be read.
    """
    config = trained.config
    options, run = config.of(DataOptions), config.of(RunOptions)
    subsets = Subsets(data.counts, options.many_above, options.few_below)
    seed = stream(run.seed, "probe")
    chosen = _chosen(trained, len(data.train), sizes.images, seed)
    train = data.train.take(chosen)

    say("rows of the training and of the judged images")
    real, judged = real_rows(trained, train, inputs=True), real_rows(trained, data.test)
    own = stages_of(config)[stage]
    known = classes_of(trained, own, data)
    generated = generated_rows(trained, train, stage, own, known, sizes.batches)
    sections = [history(trained.run.records(), stage)]
    say("what the head says of them, neighbours, distances")
    sections.append(head(real, judged, generated, subsets))
    sections.append(neighbours(real, generated, subsets, sizes.neighbours))
    sections.append(distances(real, generated, subsets))
    if generated is not None:
        sections.append(apart(real, generated, subsets, seed))
    del real
    say("the mask and the two parts")
    of_mask = mask(trained, data.test, subsets)
    sections += [] if of_mask is None else [of_mask]
    most = sizes.balanced_images or usual_number(len(data.classes))
    images = probe_images(config, data, most)
    sections.append(parts(trained, images.split, data.test, subsets, seed))
    say("linear probe on the embeddings")
    summary = trained.run.read_summary()["metrics"] if trained.run.summary.is_file() else {}
    reported = {each: metrics for each, metrics in summary.items() if each != stage}
    fitted = real_rows(trained, images.split)
    sections.append(frozen(fitted, judged, images, reported, subsets, seed))
    described = {
        "weights": weights.name,
        "sha256": digest(weights),
        "stage": stage,
        "seed": run.seed,
        **sizes._asdict(),
        "images": len(chosen),
        "classes": data.classes,
        "train_counts": data.counts.tolist(),
        "generated": None if generated is None else _of(generated, data),
    }
    notes = _notes(described, data, generated, options)
    if generated is not None and own.mixing is not None:
        notes.append("Training mixed its images before it generated from them; here none is mixed.")
    if generated is not None and known.confusions is not None:
        notes.append(
            "Donors are drawn by the confusions of these weights; in training by those of the "
            "weights that generation began with."
        )
    return Probed(name, weights, described, notes, sections)


def _chosen(trained: Trained, number: int, most: int | None, seed: int) -> Int64Array:
    """Positions of the training images that stand for all: all of them, or some at random."""
    if most is None:
        size = trained.config.of(TrainingOptions).batch_size
        most = max(MOST_BYTES // (4 * math.prod(shape_of_features(trained))), size)
    if most >= number:
        return np.arange(number, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).permutation(number)[:most]).astype(np.int64)


def _of(generated: Generated, data: Data) -> dict[str, Any]:
    rows = np.bincount(generated.rows.labels, minlength=len(data.classes))
    return {"batches": generated.batches, "rows": rows.tolist()}


def _notes(
    described: dict[str, Any], data: Data, generated: Generated | None, options: DataOptions
) -> list[str]:
    """What was looked at, in words."""
    of_all = described["images"] == len(data.train)
    which = "all" if of_all else f"{described['images']} at random of the"
    judged_on = {
        "test": "the test set, by which nothing may be chosen",
        "hold-out": "the hold-out",
    }[options.judged_on]
    notes = [
        f"Weights: {described['weights']}, in eval mode: BatchNorm by the running statistics that "
        f"the stage {described['stage']} ended with. Images without augmentation: {which} "
        f"{len(data.train)} training images, {len(data.test)} judged images ({judged_on}).",
    ]
    if generated is None:
        notes.append("Nothing is generated in this run: there are no probes of generated rows.")
        return notes
    rows = described["generated"]["rows"]
    order = np.argsort(-data.counts, kind="stable")
    epoch = "the last epoch" if of_all else "an epoch"
    number = generated.batches
    batches = "the first batch" if number == 1 else f"the first {number} batches"
    notes.append(
        f"Generated: {sum(rows)} rows from {batches} of {epoch}, by "
        "the stage's own sampler, groups and plan (from the largest class to the smallest: "
        f"{' '.join(str(rows[c]) for c in order[:20])}{' ...' if len(order) > 20 else ''}). In "
        "training BatchNorm had the statistics of each batch, and images were augmented; here real "
        "and generated rows have the running ones."
    )
    return notes
