"""How a generated row is made of the parts of two samples: eq. 11, and what may take its place."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ltvr.afa.plan import SynthesisPlan

__all__ = ["Combination", "Generation", "StopGradient"]

Combination = Literal["add", "swap", "positions", "channels"]
StopGradient = Literal["none", "features", "variation", "both"]


class Generation(NamedTuple):
    """How rows are generated from X_class and X_var; as it is made, to the letter of the paper."""

    combination: Combination = "add"
    """``add``: X_class[i] + X_var[j] (eq. 11). ``swap``: the row of sample i as the head sees it,
    with X_var of sample j in the place of its own. ``positions`` and ``channels``: V = X_class +
    X_var of sample i where it is most class-related, and of sample j elsewhere (``selected``)."""
    selected_share: float = 0.5
    """Of the positions, or channels, that are of sample i."""
    keep_norms: bool = False
    """Whether a row is scaled to the length of the real row i."""
    stop_gradient: StopGradient = "none"
    """What sends no gradient back from generated rows: X, so that they train what is behind it and
    the decomposition, but not the extractor; X_var of the donor; or both of them."""

    @property
    def is_equation_11(self) -> bool:
        """Whether rows are X_class[i] + X_var[j], with gradients through everything."""
        return (self.combination, self.keep_norms, self.stop_gradient) == ("add", False, "none")

    @property
    def stops_features(self) -> bool:
        """Whether X sends no gradient back."""
        return self.stop_gradient in ("features", "both")

    def rows(
        self,
        real: Tensor,
        class_related: Tensor,
        variation_related: Tensor,
        plan: SynthesisPlan,
        value_scale: float = 1.0,
    ) -> Tensor:
        """The generated rows [G, D, H, W].

        Args:
            real: [B, D, H, W], the real rows as the head sees them.
            class_related, variation_related: X_class and X_var of theirs, of the same shape.
            plan: of the B samples, on their device.
            value_scale: how many X are X_class + X_var when training begins. An exchange takes
                X_var by that, since a real row is X + X_class.
        """
        # index_select, not indexing: the gradient of indexing races between threads of a CPU.
        i, j = plan.class_index, plan.variation_index
        if self.stop_gradient in ("variation", "both"):
            variation_related = variation_related.detach()
        if self.combination == "add":
            rows = class_related.index_select(0, i) + variation_related.index_select(0, j)
        elif self.combination == "swap":
            own, other = (variation_related.index_select(0, k) for k in (i, j))
            rows = real.index_select(0, i) + (other - own) / value_scale
        else:
            values = class_related + variation_related
            chosen = selected(
                class_related.detach(),
                variation_related.detach(),
                self.combination,
                self.selected_share,
            )
            rows = torch.where(
                chosen.index_select(0, i), values.index_select(0, i), values.index_select(0, j)
            )
        if self.keep_norms:
            lengths = _lengths(real.detach()).index_select(0, i)
            rows = rows * (lengths / _lengths(rows.detach()).clamp_min(1e-12)).to(rows.dtype)
        return rows


def selected(
    class_related: Tensor,
    variation_related: Tensor,
    over: Literal["positions", "channels"],
    share: float,
) -> Tensor:
    """Where samples are most class-related: bool [B, 1, H, W] over positions, [B, D, 1, 1] else.

    The ``share`` of positions (channels), at least one and not all, with the largest part of
    X_class in their energy, ``|X_class|^2 / (|X_class|^2 + |X_var|^2)``; of equal ones the first.

    Args:
        class_related, variation_related: [B, D, H, W].
    """
    along = (1,) if over == "positions" else (2, 3)
    energies = (
        part.float().square().sum(along, keepdim=True)
        for part in (class_related, variation_related)
    )
    own, other = energies
    part = own / (own + other).clamp_min(torch.finfo(torch.float32).tiny)
    number = part[0].numel()
    most = min(max(round(share * number), 1), max(number - 1, 1))
    order = part.flatten(1).argsort(stable=True, dim=1, descending=True)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :most], True)
    return chosen.view(part.shape)


def _lengths(rows: Tensor) -> Tensor:
    """Euclidean length of every row: [R, 1, 1, 1] float32."""
    lengths: Tensor = torch.linalg.vector_norm(rows.float(), dim=(1, 2, 3), keepdim=True)
    return lengths
