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

__all__ = ["Blend", "Box", "Mixing", "Mixture", "blended", "partners", "with_partners"]


class Blend(NamedTuple):
    """What is to be mixed within the network, after one of its stages: l x_i + (1 - l) x_j."""

    partner: Tensor
    """[B] int64, j of every row."""
    share: Tensor
    """[] float32, l."""
    after: int
    """Number of the stage, from 1."""

    def mix(self, maps: Tensor) -> Tensor:
        """Maps [B, ...] to mixed ones."""
        # index_select, not indexing: the gradient of indexing races between threads of a CPU.
        other = maps.index_select(0, self.partner)
        return torch.lerp(other, maps, self.share.to(maps.dtype))


class Box(NamedTuple):
    """A part of an image that is replaced: rows from ``top`` to before ``bottom``, and columns."""

    top: int
    bottom: int
    left: int
    right: int


class Mixture(NamedTuple):
    """How a batch of B images is mixed; drawn from its labels alone, before the images are there.

    Row i is mixed with the image at ``partner[i]``: ``share x_i + (1 - share) x_j``, or x_i with
    ``box`` of x_j. The images are those of the batch, or 2B, of which the last are partners.
    """

    targets: Targets
    """Of the B rows: two labels and a share a row, or one label where nothing is mixed."""
    partner: Tensor | None = None
    """[B] int64, j of every row; None where nothing is mixed."""
    share: float = 1.0
    """l, of x_i."""
    box: Box | None = None
    """What is replaced by that of the partner; None where images are averaged."""
    after: int = 0
    """Number of the stage of the network, from 1, whose maps are mixed; 0: the images."""

    def part(self, number: int, parts: int) -> Mixture:
        """The mixture of every ``parts``-th row from ``number`` on, for the images of these alone.

        ``parts`` divides the number of groups that partners are drawn in (``partners``), so that
        partners are among them.
        """
        partner = self.partner
        if partner is not None:
            partner = partner[number::parts] // parts
        return self._replace(targets=self.targets.part(number, parts), partner=partner)

    def images(self, images: Tensor) -> Tensor:
        """Mixed images [B, 3, S, S] of ``images``, [B, 3, S, S] or [2B, 3, S, S]."""
        own = images[: len(self.targets.labels)]
        if self.partner is None or self.after:
            return own
        partner = to_device(self.partner, images.device)
        if self.box is None:
            return torch.lerp(images[partner], own, self.share)
        rows, columns = slice(*self.box[:2]), slice(*self.box[2:])
        mixed = own.clone()
        mixed[..., rows, columns] = images[..., rows, columns][partner]
        return mixed

    def blend(self, device: torch.device) -> Blend | None:
        """What the network is yet to mix, on its device; None for nothing."""
        if self.partner is None or not self.after:
            return None
        share = torch.tensor(self.share, dtype=torch.float32)
        return Blend(to_device(self.partner, device), to_device(share, device), self.after)


def partners(number: int, groups: int, random: np.random.Generator) -> Tensor:
    """A partner for each of ``number`` rows, in a random permutation of its group: [number] int64.

    Group g holds the rows g, g + groups, g + 2 groups, ..., as in ``plan_synthesis``.
    """
    partner = np.empty(number, np.int64)
    for first in range(min(groups, number)):
        own = np.arange(first, number, groups)
        partner[own] = own[random.permutation(len(own))]
    return torch.from_numpy(partner)


class Mixing(Component):
    """Mixes the images of a batch after their augmentation.

    Args:
        options: of the class's own ``options_type``.
    """

    partners: Sampler | None = None
    """The order of further samples that images are mixed with; None: those of the batch itself."""

    plain_options = ""
    """The options that keep epochs from being mixed, as an error names them."""

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

    def draw(
        self,
        targets: Targets,
        counts: Int64Array,
        size: int,
        random: np.random.Generator,
        groups: int = 1,
    ) -> Mixture:
        """Draw how a batch is mixed, or that it is not.

        Plans are made of the first labels, so ``draw`` keeps each row's own label first. Where that
        has share 0, the other label is put first.

        Args:
            targets: one label a row, on the host: of the B samples of the batch, and where there
                are ``partners`` of as many partners after them.
            counts: [C] the training images of each class.
            size: S, of the square images.
            random: the only source of random numbers.
            groups: that the batch is cut into, for micro-batches and ranks; a row and its partner
                are of one group.
        """
        raise NotImplementedError

    def first_labels(self, own: Shares, partners: Shares, counts: Int64Array) -> Shares:
        """How often each class is a mixed row's first label, expected: [C]; by default ``own``.

        Args:
            own: [C] how often each class comes among the images of the batch.
            partners, counts: as of ``label_shares``.
        """
        return own

    def label_shares(
        self, first: Shares, partners: Shares, counts: Int64Array, size: int
    ) -> Shares:
        """How much of the labels of mixed rows each class is, expected: [C]; the sum of ``first``.

        By default half of a row's target is its first label and half its partner's: a share that is
        drawn from a Beta(a, a) is 1/2 in the mean. Rows and partners are taken to be drawn
        independently.

        Args:
            first: [C] rows by their first label.
            partners: [C] how often each class comes among what they are mixed with; of sum 1.
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
