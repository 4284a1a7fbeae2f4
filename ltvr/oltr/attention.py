"""Modulated attention, after the last stage of a backbone."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ModulatedAttention"]


class ModulatedAttention(nn.Module):
    """``x + s * r``: what a position asks of the others, where the whole map says that it counts.

    ``r`` is a non-local block, softmax over the positions asked of ``<theta_i, phi_j>`` without a
    scale, and ``s`` a softmax over the positions of a linear function of the whole map, alike for
    all channels. Liu et al., CVPR 2019, section 3. The last convolution starts at 0, and so the
    module as the identity. That is how the authors' layer starts; their backbone then draws the
    weights of all of its convolutions anew, which undoes it.

    Args:
        channels, height, width: D, H and W of the maps.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        inner, positions = max(channels // 2, 1), height * width
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.spatial = nn.Linear(positions * channels, positions)
        for conv in (self.theta, self.phi, self.g):
            nn.init.kaiming_normal_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, D, H, W] to as many."""
        asking, asked, values = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        weights = (asking.transpose(1, 2) @ asked).softmax(2)  # [B, N, N]
        response = self.out((values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]))
        where = self.spatial(x.flatten(1)).softmax(1).unflatten(1, (1, *x.shape[2:]))
        out: Tensor = x + where * response
        return out
