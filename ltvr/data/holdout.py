"""Images held out of training: a run is judged on them, or a value chosen, without the test set."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from ltvr.clock import stream
from ltvr.data.longtail import Int64Array
from ltvr.data.options import DataOptions
from ltvr.errors import UserError

__all__ = [
    "described",
    "hold_out_of_training",
    "hold_out_of_validation",
    "part_of_each_class",
    "require_source",
]


def part_of_each_class(
    labels: Int64Array,
    per_class: npt.ArrayLike,
    seed: int,
    *,
    fold: int = 0,
    at_most_half: bool = True,
) -> Int64Array:
    """Positions of the same number of images of each class, or of as many as it can spare.

    The images of a class are shuffled. Of n in that order and k to be taken, fold f is the k from
    position f k on, modulo n: two folds have no image in common up to that with (f + 1) k <= n.

    Args:
        labels: [n] class of each image.
        per_class: images of a class at most; one number, or one for each label.
        seed: of the shuffling.
        fold: f.
        at_most_half: of a class, since what trains without them still has to know it: of 5 images
            2, and none of one image.

    Returns:
        [h], ascending; none where no class can spare an image.
    """
    random = np.random.default_rng(seed)
    wanted = np.broadcast_to(np.asarray(per_class), (int(labels.max(initial=-1)) + 1,))
    held = [np.zeros(0, np.int64)]
    for k in np.unique(labels):
        order = random.permutation(np.flatnonzero(labels == k))
        number = min(int(wanted[k]), len(order) // 2 if at_most_half else len(order))
        held.append(np.roll(order, -(fold * number))[:number])
    return np.sort(np.concatenate(held)).astype(np.int64)


def require_source(options: DataOptions, splits: Collection[str]) -> None:
    """Refuse a hold-out from where there are no images, before any image is read.

    Args:
        splits: names of those that the data set has.

    Raises:
        UserError: says which, and what to do.
    """
    if not options.holdout:
        return
    if options.holdout_from == "val" and "val" not in splits:
        raise UserError(
            f"holdout_from = val: {options.dataset} has no validation split here; take "
            "--holdout-from train"
        )
    if options.holdout_from == "left-out" and (
        options.imbalance == 1 or options.imbalance_type == "none"
    ):
        raise _nothing_left_out(options)


def _nothing_left_out(options: DataOptions) -> UserError:
    return UserError(
        f"holdout_from = left-out: with imbalance = {options.imbalance:g} "
        f"({options.imbalance_type}) all images are trained on and none is left out; take "
        "--holdout-from train, or raise --imbalance"
    )


def hold_out_of_training(
    labels: Int64Array, kept: Int64Array, classes: Sequence[str], options: DataOptions
) -> Int64Array:
    """Positions of the hold-out among all training images: [h], ascending.

    Args:
        labels: [n] class of each training image.
        kept: positions of the long-tailed subset, or of all where there is none.
        classes: their names.
        options: ``holdout_from`` is ``train`` or ``left-out``.

    Raises:
        UserError: there are not so many images to hold out.
    """
    if options.holdout_from == "train":
        number = _per_class(options, len(kept), len(classes))
        held = _of(kept, labels, number, options, "train")
        if not len(held):
            raise UserError(
                "holdout: every class has one training image alone, and none to hold out; leave "
                "out --holdout"
            )
        return held
    others = np.setdiff1d(np.arange(len(labels)), kept)
    if not len(others):
        raise _nothing_left_out(options)
    number = _per_class(options, len(others), len(classes))
    held = _of(others, labels, number, options, "left-out", at_most_half=False)
    lacking = number - np.bincount(labels[held], minlength=len(classes))
    # A subset leaves out nothing of the largest class: what is lacking of it is taken from the
    # training images.
    more = _of(kept, labels, lacking, options, "train")
    found = np.bincount(labels[np.concatenate([held, more])], minlength=len(classes))
    if (found < number).any():
        k = int(np.argmin(found))
        raise UserError(
            f"holdout = {options.holdout:g}: class {classes[k]!r} has {found[k]} images to hold "
            f"out, those that are left out and half of those trained on, and {number} are wanted "
            "of each; lower --holdout"
        )
    return np.sort(np.concatenate([held, more]))


def hold_out_of_validation(
    labels: Int64Array, classes: Sequence[str], options: DataOptions
) -> Int64Array:
    """Positions of the hold-out in a validation split: [h], ascending.

    Args:
        labels: [n] class of each image of the split.
        classes: their names.
    """
    number = _per_class(options, len(labels), len(classes))
    return _of(np.arange(len(labels)), labels, number, options, "val", at_most_half=False)


def described(options: DataOptions, counts: Sequence[int]) -> str:
    """What a run with a hold-out was judged on, in a line.

    Args:
        counts: images of each class in the hold-out.
    """
    least, most = min(counts), max(counts)
    each = f"{most}" if least == most else f"{least} to {most}"
    split = "validation split" if options.holdout_from == "val" else "training set"
    return (
        f"judged on a hold-out of {sum(counts)} images of the {split}, never on the test set "
        f"(holdout {options.holdout:g} from {options.holdout_from}, fold {options.holdout_fold}, "
        f"data seed {options.data_seed}: {each} of each class)"
    )


def _per_class(options: DataOptions, images: int, classes: int) -> int:
    """K: as it was said, or the share that was said of so many images, spread over the classes."""
    if options.holdout >= 1:
        return int(options.holdout)
    return max(1, round(options.holdout * images / classes))


def _of(
    positions: Int64Array,
    labels: Int64Array,
    per_class: npt.ArrayLike,
    options: DataOptions,
    name: str,
    *,
    at_most_half: bool = True,
) -> Int64Array:
    """``part_of_each_class`` of the images at ``positions``, by the data seed's stream ``name``."""
    seed = stream(options.data_seed, f"hold-out/{name}")
    chosen = part_of_each_class(
        labels[positions], per_class, seed, fold=options.holdout_fold, at_most_half=at_most_half
    )
    return positions[chosen]
