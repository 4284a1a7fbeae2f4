"""The plan of a mini-batch's synthetic features: its parts, and what they have to satisfy.

How plans are drawn is in ``planning.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ltvr.afa.checks import check_below, check_integer, check_tensor, readable
from ltvr.errors import brief
from ltvr.transfer import to_device

__all__ = ["IGNORED", "MOST_GENERATED", "SynthesisPlan", "check_fit", "check_plan", "inverse_index"]

Int64Array = npt.NDArray[np.int64]

IGNORED = -100
"""Label of a row that counts in no loss: the default of ``torch.nn.functional.cross_entropy``."""

MOST_GENERATED = 2**24


class SynthesisPlan(NamedTuple):
    """The rows to generate from a batch of B samples; G rows, by group and label. All int64.

    ``X_gen[g] = X_class[class_index[g]] + X_var[variation_index[g]]`` (eq. 11). The two inverse
    indices are in compressed sparse row form: the rows that sample b gave its class feature to
    are ``class_rows[class_offsets[b] : class_offsets[b + 1]]``, ascending; the same for its
    variation. With them the gradient of ``X_class[b]`` is a sum over those rows of ``dX_gen``,
    gathered in a fixed order, without atomics.
    """

    class_index: Tensor
    """[G] i_g, the sample whose class feature row g takes."""
    variation_index: Tensor
    """[G] j_g, the sample whose variation feature row g takes; never i_g, but in ``unmixed``."""
    labels: Tensor
    """[G] the class of row g, which is the class of sample i_g."""
    class_offsets: Tensor
    """[B + 1] inverse of ``class_index``: offsets into ``class_rows``."""
    class_rows: Tensor
    """[G] inverse of ``class_index``: rows g, grouped by i_g."""
    variation_offsets: Tensor
    """[B + 1] inverse of ``variation_index``: offsets into ``variation_rows``."""
    variation_rows: Tensor
    """[G] inverse of ``variation_index``: rows g, grouped by j_g."""

    @property
    def generated(self) -> int:
        """G, the number of generated rows."""
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> SynthesisPlan:
        """Copy to ``device``, without a wait for it.

        Raises:
            ValueError: a plan whose parts do not fit each other, or no such device.
        """
        check_plan(self)
        device = _device(device)
        return SynthesisPlan(*(to_device(t, device) for t in self))

    def part(self, number: int, parts: int) -> SynthesisPlan:
        """The plan of every ``parts``-th sample from ``number`` on: of a micro-batch, or of a rank.

        Args:
            number: of the part, 0 to ``parts`` - 1.
            parts: how many there are; it divides the number of groups that the batch was planned
                in, so that both partners of a row are in one part.

        Raises:
            ValueError: parts that would tear partners apart, or no such part.
        """
        if not 0 <= number < parts:
            raise ValueError(f"number = {number}: expected 0 to {parts - 1}, for {parts} parts")
        if parts == 1:
            return self
        i, j = self.class_index.numpy(), self.variation_index.numpy()
        own = i % parts == number
        if (j % parts == number).tolist() != own.tolist():
            raise ValueError(f"parts = {parts}: expected a divisor of the groups of the plan")
        batch = len(range(number, len(self.class_offsets) - 1, parts))
        i, j = i[own] // parts, j[own] // parts
        inverse = map(torch.from_numpy, (*inverse_index(i, batch), *inverse_index(j, batch)))
        labels = self.labels[torch.from_numpy(own)]
        return SynthesisPlan(torch.from_numpy(i), torch.from_numpy(j), labels, *inverse)

    def unmixed(self) -> SynthesisPlan:
        """The same rows, each of the variation of its own sample: j = i."""
        return self._replace(
            variation_index=self.class_index,
            variation_offsets=self.class_offsets,
            variation_rows=self.class_rows,
        )

    def padded(self, rows: int) -> SynthesisPlan:
        """Lengthen to ``rows`` generated rows, so that every batch has the same shapes.

        For CUDA graphs and for ``torch.compile`` without recompiling. The rows added repeat the
        plan's own under the label ``IGNORED``: they count in no loss, and a batch normalisation
        behind them sees features like the others.

        Args:
            rows: at least G; ``most_generated`` is enough for any batch.

        Raises:
            TypeError: rows that are not a whole number.
            ValueError: fewer rows than the plan has, rows of an empty batch, or a plan that has
                left the host.
        """
        check_plan(self)
        if self.labels.device.type != "cpu":
            raise ValueError(f"a plan on {self.labels.device}: pad it on the host")
        rows = check_integer("rows", rows, 0, "a whole number of generated rows")
        batch = len(self.class_offsets) - 1
        if rows > MOST_GENERATED:
            raise ValueError(f"rows = {rows}: expected at most 2^24")
        if rows < self.generated or rows > self.generated and not batch:
            raise ValueError(
                f"rows = {rows}: expected at least the {self.generated} of this plan, and 0 of an "
                "empty batch; most_generated(batch, gamma, classes) is enough for any batch"
            )
        repeated = np.arange(rows) % max(self.generated, 1)
        i, j = (  # a batch of one sample generates nothing: its rows are V of that sample
            index.numpy()[repeated] if self.generated else np.zeros(rows, np.int64)
            for index in (self.class_index, self.variation_index)
        )
        unused = torch.full((rows - self.generated,), IGNORED)
        inverse = map(torch.from_numpy, (*inverse_index(i, batch), *inverse_index(j, batch)))
        labels = torch.cat([self.labels, unused])
        return SynthesisPlan(torch.from_numpy(i), torch.from_numpy(j), labels, *inverse)


def inverse_index(index: Int64Array, batch: int) -> tuple[Int64Array, Int64Array]:
    """Offsets [B + 1] and rows [G]: ``rows[offsets[b] : offsets[b + 1]]`` have ``index == b``."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=batch))])
    return offsets, np.argsort(index, kind="stable")


def _device(device: torch.device | str) -> torch.device:
    """Parse ``device``, and refuse what this machine does not have."""
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device = {brief(device)}: expected a torch.device or its name")
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device = {brief(device)}: no such device ({reason})") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device = {brief(device)}: torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return found


def check_plan(plan: SynthesisPlan) -> None:
    """Refuse what is not a plan, and a plan whose parts contradict each other.

    On a GPU, and while a graph is traced, shapes, dtypes and devices alone: to read the numbers
    would make the host wait. ``SynthesisPlan.to`` has read them before they left the host.

    Raises:
        TypeError: not a plan, or a part that is not a tensor of int64.
        ValueError: parts that do not fit each other.
    """
    if not isinstance(plan, SynthesisPlan):
        raise TypeError(
            f"plan: expected a SynthesisPlan, got {type(plan).__name__}; call ltvr.plan_synthesis"
        )
    for name in ("labels", "class_offsets"):  # they tell G and B
        part = getattr(plan, name)
        if not isinstance(part, Tensor) or part.is_nested or part.dim() != 1:
            raise TypeError(f"plan.{name} = {brief(part)}: expected a tensor of one dimension")
    if not plan.class_offsets.shape[0]:
        raise ValueError("plan.class_offsets is empty: expected one offset more than samples")
    samples, rows = plan.class_offsets.shape[0] - 1, plan.labels.shape[0]
    for name, part in zip(SynthesisPlan._fields, plan, strict=True):
        size = samples + 1 if name.endswith("offsets") else rows
        check_tensor(f"plan.{name}", part, (size,), torch.int64, plan.labels.device)
    if not readable(*plan):
        return
    for kind in ("class", "variation"):
        index = getattr(plan, f"{kind}_index")
        check_below(f"plan.{kind}_index", index, samples)
        for part, right in zip(
            ("offsets", "rows"), inverse_index(index.numpy(), samples), strict=True
        ):
            found = getattr(plan, f"{kind}_{part}").numpy()
            if found.tobytes() != right.tobytes():
                g = int(np.argmax(found != right))
                raise ValueError(
                    f"plan.{kind}_{part}[{g}] = {found[g]}: expected {right[g]}, as it is the "
                    f"inverse of {kind}_index; make plans with ltvr.plan_synthesis"
                )


def check_fit(plan: SynthesisPlan, batch: int, device: torch.device) -> None:
    """Refuse a plan of another batch or on another device.

    Raises:
        ValueError: not a plan of ``batch`` samples on ``device``.
    """
    samples = plan.class_offsets.shape[0] - 1
    if samples != batch:
        raise ValueError(
            f"{batch} features and a plan for {samples}: expected the same number; plan this batch"
        )
    if plan.labels.device != device:
        raise ValueError(
            f"a plan on {plan.labels.device} and features on {device}: expected both on one "
            "device; plan.to(x.device) copies it"
        )
