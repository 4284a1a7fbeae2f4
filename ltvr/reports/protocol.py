"""What a run did otherwise than the field, a line each: whether its numbers compare.

The field is the public codes of long-tailed recognition: Kang et al., Decoupling Representation and
Classifier, ICLR 2020 (ImageNet-LT); Cao et al., LDAM, NeurIPS 2019 (CIFAR-LT); and their followers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ltvr.config.config import Config
from ltvr.config.options import options_of
from ltvr.data import holdout
from ltvr.data.longtail import CIFAR, imagenet_lt_counts, longtail_counts
from ltvr.data.options import DataOptions
from ltvr.mixing import MIXINGS
from ltvr.stages import STAGES
from ltvr.stages.build import stages_of
from ltvr.stages.options import TrainingOptions

__all__ = ["Finding", "field_subset", "findings"]

RATES = ((0.2, 512), (0.1, 128))
"""Learning rate and images a step: of Kang et al., and of Cao et al. and OLTR."""
IMBALANCES = (10, 20, 50, 100, 200)
"""Largest class : smallest class, of the CIFAR-LT subsets that numbers are published for."""

OWN = ("folder", "shards")
"""Data sets that may be any images."""


class Recipe(NamedTuple):
    """How training images are augmented, and their size in pixels."""

    augmentation: str
    padding: int
    size: int

    def __str__(self) -> str:
        crops = self.augmentation in ("crop-flip", "crop")
        padded = f", zero padding {self.padding}" if crops else ""
        return f"{self.augmentation}{padded}, {self.size} pixels"


CIFAR_RECIPE = Recipe("crop-flip", 4, 32)
PHOTOGRAPHS_RECIPE = Recipe("imagenet", 4, 224)


class Finding(NamedTuple):
    """One line of the protocol check."""

    check: str
    found: str
    field: str
    comparable: bool | None
    """Whether numbers compare with published ones in this; None: the field has none."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The line as a table shows it."""
        words = {True: "yes", False: "no", None: "nothing to compare with"}
        return self.check, self.found, self.field, words[self.comparable]


def findings(
    config: Config, described: dict[str, Any], metrics: dict[str, dict[str, Any]]
) -> list[Finding]:
    """The protocol check of a run that has ended.

    Args:
        described: its manifest.
        metrics: of its summary, by stage.
    """
    subset = field_subset(described["train_counts"])
    return [
        *_judged(config, described),
        _selection(metrics),
        _learning_rate(config),
        _subset(config, described, subset),
        _batchnorm(metrics),
        _augmentation(config, subset),
    ]


def field_subset(counts: Sequence[int]) -> str | None:
    """The public long-tailed subset that has these training images of each class; None for none."""
    counts = list(counts)
    if counts == list(imagenet_lt_counts()):
        return "ImageNet-LT"
    for classes, images in CIFAR.values():
        for imbalance in IMBALANCES:
            name = f"CIFAR-{classes}-LT, imbalance {imbalance}"
            if counts == longtail_counts(images, classes, imbalance, "exp"):
                return name
            if counts == longtail_counts(images, classes, imbalance, "step"):
                return f"{name}, step"
    return None


def _judged(config: Config, described: dict[str, Any]) -> list[Finding]:
    """Which images a run is judged on, where they are not the test set."""
    options = config.of(DataOptions)
    if not options.holdout:
        return []
    found = holdout.described(options, described["holdout"]["counts"])
    field = "the test set; settings are chosen on a hold-out, and the test set is read once"
    return [Finding("images", found, field, False)]


def _selection(metrics: dict[str, dict[str, Any]]) -> Finding:
    """Which epoch is reported."""
    on = {_title(name): values.get("selected_on") for name, values in metrics.items()}
    chosen = {words for words in on.values() if words is not None}
    found = "; ".join(
        f"{name}: the last epoch" if words is None else f"{name}: the best epoch on {words} images"
        for name, words in on.items()
    )
    tested, held_out = (any(on in words for words in chosen) for on in ("test", "hold-out"))
    if tested:
        found += ". Chosen on the test set: optimistic"
    elif held_out:
        found += ". Chosen on the images that it is judged on: optimistic"
    return Finding(
        "selection",
        found,
        "ImageNet-LT: the best epoch on validation images. CIFAR-LT has none: the last epoch, "
        "though many published numbers are the best test epoch's, 0.3 to 1 higher",
        not tested and not held_out,
    )


def _learning_rate(config: Config) -> Finding:
    """Whether the learning rates go with the batch as the field's do."""
    size, stages = config.of(TrainingOptions).batch_size, stages_of(config)
    trained = [stage for stage in stages.values() if stage.epochs]
    rates = [f"{stage.title} {stage.lr:.4g}" for stage in trained]
    found = f"{', '.join(rates)} at {size} images a step" if rates else "nothing is trained"
    others = [s for s in trained if not any(math.isclose(s.lr, r * size / b) for r, b in RATES)]
    if others:
        at_512 = ", ".join(f"{stage.title} {stage.lr * 512 / size:.4g}" for stage in others)
        found += f"; at 512 that is {at_512}"
    field = " or ".join(f"{rate:g} at {batch}" for rate, batch in RATES)
    return Finding("learning rate", found, f"{field}, in proportion to the batch", not others)


def _subset(config: Config, described: dict[str, Any], subset: str | None) -> Finding:
    """Whether the training images are a subset that the field knows."""
    options, images = config.of(DataOptions), sum(described["train_counts"])
    drawn = options.imbalance > 1 and options.imbalance_type != "none"
    field = "CIFAR-LT by LDAM's rule, data seed 0, imbalance 10 to 200; the lists of ImageNet-LT"
    comparable: bool | None = subset is not None
    if subset is None:
        found = f"{images} images: not a subset the field knows"
        if options.dataset in ("places-lt", "inaturalist18") and not drawn:
            found, comparable = f"{images} images of the lists of {options.dataset}", None
            field = "the same lists, whose class counts are not at hand here"
        elif options.dataset in ("digits", *OWN):
            comparable = None
    else:
        found = f"{images} images in the class counts of {subset}"
        if drawn and options.data_seed != 0:
            found, comparable = f"{found}, but drawn with data seed {options.data_seed}", False
        elif options.dataset in OWN:
            where = "a folder" if options.dataset == "folder" else "shards"
            found += f", from {where}: that they are the field's images is taken on trust"
    return Finding("training subset", found, field, comparable)


def _batchnorm(metrics: dict[str, dict[str, Any]]) -> Finding:
    """Accuracy by BatchNorm statistics, and which of them the reported one has."""
    field = (
        "the running statistics of training, which go on through most codes' second stage (MiSLAS "
        "keeps those of the first on CIFAR-10)"
    )
    if not any("batchnorm" in values for values in metrics.values()):
        return Finding("BatchNorm", "not measured", field, None)
    measured = {name: values.get("batchnorm") for name, values in metrics.items()}
    if not any(measured.values()):
        return Finding("BatchNorm", "the network has none", field, True)
    lines, running = [], True
    for name, values in measured.items():
        if values is not None:
            accuracy = (f"{kind} {of['all']:.2f}" for kind, of in values["accuracy"].items())
            lines.append(f"{_title(name)}: {', '.join(accuracy)}, reported {values['reported']}")
            theirs = ("running", "kept") if name == "mislas" else ("running",)
            running = running and values["reported"] in theirs
            images = values["images"]
    found = f"top-1 by statistics, %. {'; '.join(lines)}. Real and class-balanced: {images} images"
    return Finding("BatchNorm", found, field, running)


def _augmentation(config: Config, subset: str | None) -> Finding:
    """Whether training images are augmented by the recipe, and no further."""
    options = config.of(DataOptions)
    own = Recipe(options.augmentation, options.crop_padding, options.image_size)
    recipe: Recipe | None = None
    if options.dataset in CIFAR or (subset is not None and subset.startswith("CIFAR")):
        recipe = CIFAR_RECIPE
    elif options.dataset not in ("digits", *OWN) or subset is not None:
        recipe = PHOTOGRAPHS_RECIPE
    values = config.flat()
    slots = [each for kind in config.in_use for each in options_of(kind) if each.slot is MIXINGS]
    mixed = sorted({values[each.name] for each in slots} - {"none"})
    field = "none of its own for these images" if recipe is None else str(recipe)
    return Finding(
        "augmentation",
        str(own) + (f"; mixing beyond the recipe: {', '.join(mixed)}" if mixed else ""),
        f"{field}; mixing in the rows that are named after it alone",
        None if recipe is None else str(own) == str(recipe) and not mixed,
    )


def _title(stage: str) -> str:
    return STAGES.get(stage).title
