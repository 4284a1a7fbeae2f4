"""What the decomposition's mask selects, and how much of V it gives to X_class."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ltvr.data.splits import Split
from ltvr.engine.trained import Trained
from ltvr.figures.pixels import shown_pixels
from ltvr.probes.figures import Masked, draw_masks
from ltvr.probes.lines import Section, Subsets
from ltvr.probes.rows import features_of

__all__ = ["fixed_pattern", "mask", "parts_of_energy", "statistics_of"]

EXAMPLES = 8
"""Images that are drawn with their masks."""


def statistics_of(masks: Tensor) -> dict[str, Tensor]:
    """What masks M [B, D, H, W], not negative, are like; a number for each image: [B].

    ``mean``; ``spread over positions``: the standard deviation over the N positions of a channel,
    over the mean of the mask, the mean over channels; ``spread over channels`` the same of the D
    channels of a position; ``entropy over positions``: ``-sum p log p / log N`` with
    ``p = M / sum M`` of a channel, the mean over channels: 1 of a flat mask, 0 of a one-hot one.
    ``over channels`` the same, / log D. A channel (position) of zeros alone counts as flat.
    """
    m = masks.double().flatten(2)
    mean = m.mean((1, 2))
    scale = torch.where(mean > 0, mean, 1.0)[:, None]
    found = {"mean": mean}
    for name, axis in (("positions", 2), ("channels", 1)):
        spread = m.std(axis, correction=0) / scale
        found[f"spread over {name}"] = spread.mean(1)
        found[f"entropy over {name}"] = _entropy(m, axis).mean(1)
    return found


def _entropy(m: Tensor, axis: int) -> Tensor:
    """Of M over its sum along an axis, over that of a flat one."""
    size = m.shape[axis]
    if size == 1:
        return torch.ones_like(m.sum(axis))
    total = m.sum(axis, keepdim=True)
    p = torch.where(total > 0, m / torch.where(total > 0, total, 1.0), 1 / size)
    entropy: Tensor = torch.special.entr(p).sum(axis) / math.log(size)
    return entropy


def parts_of_energy(x_class: Tensor, x_var: Tensor) -> dict[str, Tensor]:
    """Shares of ``|V|^2``, V = X_class + X_var, and the angle between the parts: [B] each.

    ``|V|^2 = |X_class|^2 + |X_var|^2 + 2 <X_class, X_var>``. ``cosine``: 1 where both parts are the
    same up to a factor, so that nothing is split.
    """
    a, b = x_class.double().flatten(1), x_var.double().flatten(1)
    whole = (a + b).square().sum(1)
    whole = torch.where(whole > 0, whole, 1.0)
    inner = (a * b).sum(1)
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return {
        "|X_class|^2 / |V|^2": a.square().sum(1) / whole,
        "|X_var|^2 / |V|^2": b.square().sum(1) / whole,
        "cosine of X_class and X_var": inner / torch.where(lengths > 0, lengths, 1.0),
    }


def fixed_pattern(squares: Tensor, patterns: Tensor, channels: int) -> Tensor:
    """How much of each mask's variance is a pattern P [N] that all images and channels have.

    ``1 - sum (M - P)^2 / sum (M - mean M)^2`` over the D channels and N positions of an image, P
    the mean over all channels and images: [n]. 1 of a mask that does not vary, below 0 of one that
    is further from P than from its own mean.

    Args:
        squares: [n], the sum of M^2 of each image.
        patterns: [n, N], the mean of M over the channels.
        channels: D.
    """
    p = patterns.mean(0)
    mean = patterns.mean(1)
    rest = squares - channels * (2 * patterns @ p - p.square().sum())
    variance = squares - channels * patterns.shape[1] * mean.square()
    flat = variance <= 1e-12 * squares
    return torch.where(flat, 1.0, 1 - rest / torch.where(flat, 1.0, variance))


@torch.no_grad()
def mask(trained: Trained, split: Split, subsets: Subsets) -> Section | None:
    """The mask, and the parts, of the images of a split; None without a decomposition."""
    decomposition = trained.network.decomposition
    if decomposition is None:
        return None
    found: dict[str, list[Tensor]] = {}
    squares, patterns, size = [], [], 0
    for features, _ in features_of(trained, split):
        with trained.autocast():
            masks, parts = decomposition.mask(features), decomposition.decompose(features)
        m = masks.double().flatten(2).cpu()
        size = m.shape[1]
        squares.append(m.square().sum((1, 2)))
        patterns.append(m.mean(1))
        of_batch = statistics_of(masks.cpu()) | parts_of_energy(*(each.cpu() for each in parts))
        for name, values in of_batch.items():
            found.setdefault(name, []).append(values)
    fixed = fixed_pattern(torch.cat(squares), torch.cat(patterns), size)
    of_images = {name: torch.cat(each) for name, each in found.items()} | {
        "share of its variance that is one fixed pattern": fixed
    }
    lines = [
        subsets.line(name, "judged images", values.numpy(), split.labels, unit="")
        for name, values in of_images.items()
    ]
    formulas = [
        "Of the mask M [D, N] of each judged image (D channels, N positions): its mean; its "
        "standard deviation over the positions of a channel and over the channels of a position, "
        "over that mean; the entropy of M / sum M along each axis, over that of a flat mask (1: "
        "flat, 0: one-hot).",
        "One fixed pattern: P [N], the mean of M over the channels and the judged images; of the "
        "mask of an image, 1 - sum (M - P)^2 / sum (M - mean M)^2. At 1 the mask selects the same "
        "positions whatever the image shows; it is below 0 where P is further from M than M's "
        "mean.",
        "V = X_class + X_var; |V|^2 = |X_class|^2 + |X_var|^2 + 2 <X_class, X_var>. A cosine of 1 "
        "means that both parts are the same up to a factor: nothing is split.",
    ]
    figures = {"masks": draw_masks(_examples(trained, split, subsets))}
    return Section("mask", "What the mask selects", lines, formulas, figures=figures)


@torch.no_grad()
def _examples(trained: Trained, split: Split, subsets: Subsets) -> list[Masked]:
    """The first image of classes from the largest to the smallest, with its mask."""
    present = np.unique(split.labels)
    order = present[np.argsort(-subsets.counts[present], kind="stable")]
    of = order[np.unique(np.linspace(0, len(order) - 1, EXAMPLES).round().astype(np.int64))]
    chosen = np.asarray([np.flatnonzero(split.labels == c)[0] for c in of])
    images, _ = next(trained.batches(split.take(chosen), len(chosen)))
    with trained.autocast():
        masks = trained.network.masks(images)
    found = []
    for c, pixels, own in zip(of, shown_pixels(images, trained.config), masks, strict=True):
        own = own.float().cpu()
        widest = own.flatten(1).std(1, correction=0).argmax()
        title = f"class {c}, {subsets.counts[c]}"
        found.append(Masked(title, pixels, own.mean(0).numpy(), own[widest].numpy()))
    return found
