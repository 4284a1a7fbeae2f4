"""How the batch of a step is cut: into groups, micro-batches and ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ltvr import distributed
from ltvr.data.longtail import Int64Array
from ltvr.errors import UserError
from ltvr.stages.base import Stage
from ltvr.stages.options import TrainingOptions

__all__ = ["Cut"]


class Cut(NamedTuple):
    """A batch of B samples in ``groups`` groups, of which every part holds whole ones.

    A part is a micro-batch of a rank: there are ``ranks * accumulate``, and part p holds the
    samples p, p + parts, p + 2 parts, ... of the batch. Group g holds g, g + groups, ...: where the
    groups are a multiple of the parts in number, each is in one part, however many parts there are.
    So the groups, and with them plans and partners, follow from the batch alone. Samples of one
    class that come in a row, as in class-aware order, are spread over the groups.
    """

    batch_size: int
    """B."""
    groups: int
    accumulate: int
    """Micro-batches of each rank."""
    ranks: int = 1
    rank: int = 0
    """This one."""

    @classmethod
    def of(cls, options: TrainingOptions, stage: Stage) -> Cut:
        """The cut of a stage on the ranks that there are.

        Raises:
            UserError: parts of unequal size, or that would tear groups apart.
        """
        ranks, size = distributed.ranks(), options.batch_size
        cut = cls(size, options.groups, options.accumulate, ranks, distributed.rank())
        together = f"{ranks} ranks" if ranks > 1 else ""
        if options.accumulate > 1:
            each = f"{options.accumulate} micro-batches (accumulate)"
            together = f"{together} with {each} each" if together else each
        if size % cut.parts:
            raise UserError(
                f"batch_size = {size}: expected a multiple of {cut.parts}, for {together}; "
                "batch_size is the total of a step"
            )
        if stage.in_groups and cut.groups % cut.parts:
            most = size // cut.parts
            fits = [
                str(number)
                for number in range(1, cut.groups + 1)
                if cut.groups % (number * options.accumulate) == 0
                and size % (number * options.accumulate) == 0
            ]
            several = "s" * (fits[-1:] != ["1"])
            start = f"start {' or '.join(fits)} rank{several}, or " if ranks > 1 and fits else ""
            raise UserError(
                f"synthesis_group = {options.synthesis_group}: a batch of {size} is cut into "
                f"{cut.groups} group{'s' * (cut.groups > 1)}, which {together} cannot share; "
                f"{start}set --synthesis-group to {most} or to a divisor of it, or change "
                "--batch-size, from the first run on"
            )
        return cut

    @property
    def parts(self) -> int:
        """Micro-batches of all ranks."""
        return self.ranks * self.accumulate

    @property
    def rows(self) -> int:
        """Samples of a part."""
        return self.batch_size // self.parts

    @property
    def numbers(self) -> list[int]:
        """The parts of this rank, in order."""
        return [micro * self.ranks + self.rank for micro in range(self.accumulate)]

    @property
    def places(self) -> list[Int64Array]:
        """Which samples of a batch each of ``numbers`` holds."""
        return [np.arange(number, self.batch_size, self.parts) for number in self.numbers]

    @property
    def largest_group(self) -> int:
        """Samples of the largest group."""
        return -(-self.batch_size // self.groups)

    @property
    def described(self) -> str:
        """The batch as its factors: ``512 = 8 x 64 x 1``, of ranks, images and micro-batches."""
        return f"{self.batch_size} = {self.ranks} x {self.rows} x {self.accumulate}"
