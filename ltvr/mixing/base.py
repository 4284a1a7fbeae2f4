"""The interface of mixing: a batch of images and their targets to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltvr.config.options import Options
from ltvr.config.slots import Component
from ltvr.data.longtail import Int64Array
from ltvr.data.targets import Targets
from ltvr.samplers.base import Sampler, Shares
from ltvr.transfer import to_device

__all__ = ["Blend", "Mixed", "Mixing", "blended", "with_partners"]


class Blend(NamedTuple):
    """What is to be mixed within the network, after one of its stages: l x_i + (1 - l) x_j."""

    partner: Tensor
    """[B] int64, j of every row."""
    share: Tensor
    """[] float32, l."""
    after: int
    """Number of the stage, from 1."""

    def to(self, device: torch.device) -> Blend:
        """Copy to ``device``, without a wait for it."""
        return Blend(to_device(self.partner, device), to_device(self.share, device), self.after)

    def mix(self, maps: Tensor) -> Tensor:
        """Maps [B, ...] to mixed ones."""
        # index_select, not indexing: the gradient of indexing races between threads of a CPU.
        other = maps.index_select(0, self.partner)
        return torch.lerp(other, maps, self.share.to(maps.dtype))


class Mixed(NamedTuple):
    """A mixed batch."""

    images: Tensor
    """[B, 3, S, S]."""
    targets: Targets
    """Two labels and a share a row, or one label where nothing was mixed."""
    blend: Blend | None = None
    """What the network is yet to mix, and the targets are of already."""


class Mixing(Component):
    """Mixes the images of a micro-batch after their augmentation.

    Args:
        options: of the class's own ``options_type``.
    """

    partners: Sampler | None = None
    """The order of further samples that images are mixed with; None: those of the batch itself."""

    def __init__(self, options: Options) -> None:
        pass

    def check(self, stages: Sequence[str]) -> None:
        """Refuse a network that it cannot mix in.

        Args:
            stages: names of those that the network has, up to the decomposition, if there is one.

        Raises:
            UserError: too few of them.
        """

    def epochs(self, epochs: int) -> range:
        """The epochs, from 0, of ``epochs`` in which batches are mixed; by default all."""
        return range(epochs)

    def mix(
        self, images: Tensor, targets: Targets, counts: Int64Array, random: np.random.Generator
    ) -> Mixed:
        """Mixed images [B, 3, S, S] and their targets, two labels and a share a row;
        or both as they came.

        The synthesis plan is made of the first labels. They stay as they came, in whichever share,
        so that the plan is of the classes that the batch has, but for a row in which the first has
        no share at all: that is a row of the other label, which is put first.

        Args:
            images: [B, 3, S, S], augmented and normalised; [2B, 3, S, S] where there are
                ``partners``, the B samples of the batch before as many partners.
            targets: one label a row, on the host.
            counts: [C] the training images of each class.
            random: the only source of random numbers.
        """
        raise NotImplementedError

    def first_labels(self, own: Shares, partners: Shares, counts: Int64Array) -> Shares:
        """How often each class is a mixed row's first label, expected: [C]; by default ``own``.

        Args: as of ``label_shares``.
        """
        return own

    def label_shares(
        self, first: Shares, own: Shares, partners: Shares, counts: Int64Array, size: int
    ) -> Shares:
        """How much of the labels of mixed rows each class is, expected: [C]; the sum of ``first``.

        By default a row is half of its first label and half of its partner's, as where the share is
        drawn from a Beta(a, a). Rows and partners are taken to be drawn independently.

        Args:
            first: [C] rows by their first label.
            own, partners: [C] how often each class comes, among the images of the batch and among
                what they are mixed with; of sum 1.
            counts: [C] the training images of each class.
            size: S, of the images.
        """
        return blended(first, partners, 0.5)


def blended(first: Shares, partners: Shares, part: float) -> Shares:
    """Labels [C] of rows [C] that are ``part`` of a partner, whose classes are ``partners`` [C]."""
    labels: Shares = (1 - part) * first + part * first.sum() * partners
    return labels


def with_partners(order: Int64Array, partners: Int64Array, size: int) -> Int64Array:
    """Two orders as one of batches of twice the size: ``size`` samples, then as many partners.

    Args:
        order, partners: [n] each, n a multiple of ``size``.

    Returns:
        [2n].
    """
    halves = order.reshape(-1, size), partners.reshape(-1, size)
    return np.concatenate(halves, axis=1).reshape(-1)
