"""What configurations gain over the first one: in all, by many, medium and few, by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ltvr.comparison.entries import Entry, Group
from ltvr.comparison.images import Images
from ltvr.comparison.paired import holm, over_images, over_seeds
from ltvr.data.options import DataOptions
from ltvr.engine.accuracy_table import SHOTS
from ltvr.engine.balanced import mean_of_classes

__all__ = ["Gain", "Row", "gains_over"]


class Row(NamedTuple):
    """One accuracy before and after, in percent, and the test of the gain."""

    before: float | None
    """None where there is no such class, or no image of it to judge by."""
    after: float | None
    gain: float | None
    half: float | None = None
    """Over seeds: the 95 % interval is the gain, less or more this."""
    won: int | None = None
    """Over images: those that only the second network has right."""
    lost: int | None = None
    p: float | None = None
    """Two-sided; of a class corrected for the number of classes."""


@dataclass(frozen=True)
class Gain:
    """What a configuration gains over the first one after a stage."""

    group: Group
    stages: tuple[str, str]
    """Of the first, and of this one."""
    over: Literal["seeds", "images", "nothing"]
    pairs: list[tuple[Entry, Entry]]
    """The runs that are compared: of the first configuration, and of this one."""
    number: int
    """Of the seeds, or of the images, that the test is over."""
    shots: dict[str, Row]
    """By what accuracies are of: all, many, medium and few, by the training images of the first
    run; of a hold-out the balanced accuracy, too."""
    classes: list[Row]
    """[C]."""


def gains_over(first: Group, other: Group, images: Images | None) -> list[Gain]:
    """The gains of ``other`` over ``first``: after each stage that both have, and after the last.

    Two or more seeds that both have are paired, and tested over. With fewer the test is over the
    images that they are judged on, of the two networks of the seed that both have, or of the first
    seed of each.

    Args:
        images: for tests over images; None leaves them out.

    Returns:
        One for each stage; none where one of the two has no finished run.
    """
    done, others = ([e for e in g.entries if e.metrics is not None] for g in (first, other))
    if not done or not others:
        return []
    by_seed = {entry.seed: entry for entry in others}
    pairs = [(entry, by_seed[entry.seed]) for entry in done if entry.seed in by_seed]
    pairs = pairs or [(done[0], others[0])]
    return [_gain(other, stages, pairs, images) for stages in _stages(*pairs[0])]


def _metrics(entry: Entry) -> dict[str, dict[str, Any]]:
    assert entry.metrics is not None  # gains_over takes finished runs
    return entry.metrics


def _stages(before: Entry, after: Entry) -> list[tuple[str, str]]:
    """The stages to compare: those of one name, and the last of each."""
    own, theirs = list(_metrics(before)), list(_metrics(after))
    return list(dict.fromkeys([*((s, s) for s in own if s in theirs), (own[-1], theirs[-1])]))


def _gain(
    group: Group,
    stages: tuple[str, str],
    pairs: list[tuple[Entry, Entry]],
    images: Images | None,
) -> Gain:
    first = pairs[0][0]
    options, counts = first.config.of(DataOptions), first.manifest["train_counts"]
    shots = np.asarray([options.shot_of(n) for n in counts])
    groups = {shot: shots == shot for shot in SHOTS}
    if first.judged_on == "hold-out":
        groups["balanced_accuracy"] = np.ones(len(shots), np.bool_)
    if len(pairs) > 1 or images is None:
        by_shot, by_class = _over_seeds(stages, pairs, groups)
        over: Literal["seeds", "images", "nothing"] = "seeds" if len(pairs) > 1 else "nothing"
        number = len(pairs)
    else:
        over, pair = "images", pairs[0]
        (before, labels), (after, _) = (
            images.correct(e, s) for e, s in zip(pair, stages, strict=True)
        )
        number = len(labels)
        by_shot, by_class = _over_images(before, after, labels, groups)
    corrected = holm([row.p for row in by_class])
    by_class = [row._replace(p=p) for row, p in zip(by_class, corrected, strict=True)]
    return Gain(group, stages, over, pairs, number, by_shot, by_class)


Rows = tuple[dict[str, Row], list[Row]]
Groups = dict[str, npt.NDArray[np.bool_]]
"""By name, which classes are in it; its accuracy is the mean of theirs."""


def _over_seeds(stages: tuple[str, str], pairs: list[tuple[Entry, Entry]], groups: Groups) -> Rows:
    """From the summaries of the runs; of a single pair without a test."""
    found = [
        [_metrics(entry)[stage] for entry, stage in zip(pair, stages, strict=True)]
        for pair in pairs
    ]
    by_shot = {"all": _seed_row([(b["all"], a["all"]) for b, a in found])}
    for name, of in groups.items():
        by_shot[name] = _seed_row(
            [(_mean(b["per_class"], of), _mean(a["per_class"], of)) for b, a in found]
        )
    by_class = [
        _seed_row([(b["per_class"][k], a["per_class"][k]) for b, a in found])
        for k in range(len(found[0][0]["per_class"]))
    ]
    return by_shot, by_class


def _mean(per_class: Sequence[float | None], of: npt.NDArray[np.bool_]) -> float | None:
    return mean_of_classes(p for p, in_it in zip(per_class, of, strict=True) if in_it)


def _seed_row(values: list[tuple[float | None, float | None]]) -> Row:
    known = [(b, a) for b, a in values if b is not None and a is not None]
    if len(known) < len(values):
        return Row(None, None, None)
    before, after = ([pair[side] for pair in known] for side in (0, 1))
    means = float(np.mean(before)), float(np.mean(after))
    if len(known) < 2:
        return Row(*means, means[1] - means[0])
    gain, half, p = over_seeds(before, after)
    return Row(*means, gain, half=half, p=p)


def _over_images(
    before: npt.NDArray[np.bool_],
    after: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.int64],
    groups: Groups,
) -> Rows:
    """From what two networks make of the same images.

    Accuracies of groups of classes are means over classes, as everywhere; their test counts images.
    """
    classes = len(next(iter(groups.values())))
    by_class = [_image_row(before, after, labels == k) for k in range(classes)]
    by_shot = {"all": _image_row(before, after, np.ones(len(labels), np.bool_))}
    for name, of in groups.items():
        row = _image_row(before, after, of[labels])
        means = [_mean([r[side] for r in by_class], of) for side in (0, 1)]
        gain = None if means[0] is None or means[1] is None else means[1] - means[0]
        by_shot[name] = row._replace(before=means[0], after=means[1], gain=gain)
    return by_shot, by_class


def _image_row(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]
) -> Row:
    if not of.any():
        return Row(None, None, None)
    won, lost, p = over_images(before[of], after[of])
    accuracies = [float(each[of].mean()) * 100 for each in (before, after)]
    gain = (won - lost) / int(of.sum()) * 100
    return Row(accuracies[0], accuracies[1], gain, won=won, lost=lost, p=p)
