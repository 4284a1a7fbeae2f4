"""The global context block in the place of the feature decomposition, as a term that is added."""

from __future__ import annotations

from torch import Tensor

from ltvr.decompositions.gc import GC

__all__ = ["GCAdd"]


class GCAdd(GC):
    """X_class = t at all positions, X_var = X - t: the fusion ``channel_add`` of the block.

    X + X_class is then what a GC block gives, and all positions of a class-related part are alike.
    t starts at 0: at first generated features are those of the sample that varies. What t is, and
    the source, is in ``gc``.
    """

    def mask(self, x: Tensor) -> Tensor:
        """How large t is, to look at: [B, D, H, W], alike at all positions."""
        return self.context(x).abs().expand_as(x)

    def decompose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """T at all positions and X - t, [B, D, H, W] each."""
        t = self.context(x).expand_as(x)
        return t, x - t
