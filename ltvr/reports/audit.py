"""What was found in a data set before a run, in lines for a person and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltvr.data.audit import Audit, Image, Part
from ltvr.data.options import DataOptions

__all__ = ["as_json", "lines"]

FEW_ENOUGH_TO_NAME = 10
CLASSES_TO_SHOW = 30
"""Of more classes the largest and the smallest have a line each."""
NEARLY_EMPTY = 5
"""A class of fewer training images than this is worth a line."""


def lines(found: Audit, options: DataOptions, *, verbose: bool = False) -> list[str]:
    """Describe a data set: splits, classes, copies, and last what a run would stop at.

    Args:
        options: where many and few begin.
        verbose: name everything that is counted, and not the first ten.
    """

    def named(what: str, names: Sequence[object]) -> list[str]:
        if not names:
            return []
        some = names if verbose else names[:FEW_ENOUGH_TO_NAME]
        more = len(names) - len(some)
        rest = [f"    and {more} more (--verbose names them)"] if more else []
        return [f"{what}: {len(names)}", *(f"    {name}" for name in some), *rest]

    text = []
    for name, part in found.parts.items():
        text += [f"{name}: {len(part.readable)} images of {len(part.counts)} classes"]
        text += [f"    {line}" for line in _facts(part)]
        if part.found.skipped:
            text += [f"    passed over: {part.found.summary()}"]
            if verbose:
                text += [f"        {path}: {why}" for path, why in part.found.skipped.items()]
    first = next(iter(found.parts.values()))
    text += _balance(found.classes, first, options)
    text += _classes(found, options, verbose)
    for kind, (low, high) in found.ranges.items():
        text += [f"{kind}: {low:g} of the training images becomes black, {high:g} white"]
    rare = [f"{k} ({n})" for k in found.classes if 0 < (n := first.counts[k]) < NEARLY_EMPTY]
    text += named(f"classes of fewer than {NEARLY_EMPTY} training images", rare)
    text += named("classes without a test image", found.untested)
    for name, number in _within(found).items():
        text += [f"{name}: {number} images are copies of others in it"]
        if verbose:
            groups = ([i.path for i in group if i.split == name] for group in found.copies)
            text += [f"    {' = '.join(map(str, paths))}" for paths in groups if len(paths) > 1]
    for (one, other), images in found.leaks.items():
        text += named(f"{other} images that are in {one} too", [i.path for i in images])
    contradictions = [
        " = ".join(f"{image.path} ({image.label})" for image in group)
        for group in found.contradictions
    ]
    text += named("the same image under several classes", contradictions)
    for name, part in found.parts.items():
        bad = [image.problem for image in part.images if image.problem]
        text += named(f"{name} images that cannot be read", bad)
    text += [f"a run is {found.judged}"] if found.judged else []
    text += [f"problem: {problem}" for problem in found.problems]
    return text


def as_json(found: Audit, options: DataOptions) -> dict[str, Any]:
    """The same, and everything by name, as values that JSON has."""

    def paths(images: list[Image]) -> list[str]:
        return [str(image.path) for image in images]

    first = next(iter(found.parts.values()))
    return {
        "classes": {
            name: {
                "shot": options.shot_of(first.counts[name]),
                "images": {split: part.counts[name] for split, part in found.parts.items()},
            }
            for name in found.classes
        },
        "splits": {
            name: {
                "images": len(part.readable),
                "sizes": _sizes(part),
                "modes": dict(Counter(image.facts.mode for image in part.readable)),
                "several_frames": sum(image.facts.frames > 1 for image in part.readable),
                "not_finite": sum(image.facts.not_finite > 0 for image in part.readable),
                "unreadable": {str(i.path): i.problem for i in part.images if i.problem},
                "passed_over": {str(path): why for path, why in part.found.skipped.items()},
            }
            for name, part in found.parts.items()
        },
        "ranges": {kind: list(limits) for kind, limits in found.ranges.items()},
        "copies": [paths(group) for group in found.copies],
        "leaks": {f"{one} {other}": paths(images) for (one, other), images in found.leaks.items()},
        "contradictions": [paths(group) for group in found.contradictions],
        "judged": found.judged or None,
        "problems": found.problems,
    }


def _facts(part: Part) -> list[str]:
    """Sizes, kinds of pixels, frames and pixels that are no number, of a split."""
    if not part.readable:
        return []
    sizes = _sizes(part)
    said = ", ".join(f"{what} {width} x {height}" for what, (width, height) in sizes.items())
    modes = Counter(image.facts.mode for image in part.readable)
    counted = {
        "of several frames, of which the first is used": sum(
            image.facts.frames > 1 for image in part.readable
        ),
        "with pixels that are not a finite number (nan becomes black)": sum(
            image.facts.not_finite > 0 for image in part.readable
        ),
    }
    return [
        f"pixels: {said}",
        f"modes: {', '.join(f'{mode} {number}' for mode, number in modes.most_common())}",
        *(f"{what}: {number}" for what, number in counted.items() if number),
    ]


def _sizes(part: Part) -> dict[str, tuple[int, int]]:
    """Width and height of the smallest and the largest image, and the medians of both."""
    if not part.readable:
        return {}
    sizes = sorted(
        ((i.facts.width, i.facts.height) for i in part.readable), key=lambda s: s[0] * s[1]
    )
    width, height = (int(np.median(each)) for each in zip(*sizes, strict=True))
    return {"smallest": sizes[0], "median": (width, height), "largest": sizes[-1]}


def _balance(classes: list[str], part: Part, options: DataOptions) -> list[str]:
    """How many images the classes have, and how many classes are many, medium, few."""
    counts = {name: part.counts[name] for name in classes}
    if not counts:
        return []
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = f", {counts[most] / counts[least]:.1f} : 1" if counts[least] else ""
    shots = Counter(options.shot_of(n) for n in counts.values())
    return [
        f"classes: {len(counts)}, {counts[most]} ({most}) to {counts[least]} ({least}) training "
        f"images{ratio}; {shots['many']} many, {shots['medium']} medium, {shots['few']} few"
    ]


def _classes(found: Audit, options: DataOptions, verbose: bool) -> list[str]:
    """A line a class, by falling number of training images; the middle of many is left out."""
    training = next(iter(found.parts.values())).counts
    text = []
    for name in sorted(found.classes, key=training.__getitem__, reverse=True):
        images = ", ".join(f"{part.counts[name]} {split}" for split, part in found.parts.items())
        text.append(f"    {name}: {images}; {options.shot_of(training[name])}")
    more = len(text) - 2 * FEW_ENOUGH_TO_NAME
    if not verbose and len(text) > CLASSES_TO_SHOW:
        rest = f"    and {more} more between (--verbose names them)"
        text[FEW_ENOUGH_TO_NAME:-FEW_ENOUGH_TO_NAME] = [rest]
    return text


def _within(found: Audit) -> dict[str, int]:
    """By split: how many of its images are copies of an earlier one in it."""
    number: Counter[str] = Counter()
    for group in found.copies:
        for name, times in Counter(image.split for image in group).items():
            number[name] += times - 1
    return {name: n for name, n in number.items() if n}
