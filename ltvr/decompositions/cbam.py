"""CBAM in the place of the feature decomposition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ltvr.config.options import Options, option
from ltvr.decompositions.base import Decomposition, bottleneck

__all__ = ["CBAM", "CBAMOptions"]


@dataclass(frozen=True)
class CBAMOptions(Options):
    """CBAM."""

    cbam_reduction: int = option(
        16, "r of the channel gate's bottleneck", at_least=1, architecture=True
    )


class CBAM(Decomposition):
    """X_class = Mc Ms X by a channel gate Mc and a spatial gate Ms, X_var = X - X_class.

    Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018, eq. 1-3:
    Mc = sigmoid(MLP(mean X) + MLP(max X)) over the positions, with one MLP of a bottleneck D / r,
    and Ms = sigmoid(BN(conv7x7([max X'; mean X']))) over the channels of X' = Mc X. As in the
    authors' code the weights of that BatchNorm start at 0, so that Ms starts at 1/2, and its
    momentum is 0.01. It is the row "LTVR(CBAM)" of Table V, for which the paper gives no equations:
    that the gates are the mask of eq. 3-5, with V = X, is our reading.

    Args:
        options: see ``CBAMOptions``.
        channels: D of the feature map.
        attention_addition: see ``Decomposition``.
    """

    options_type = CBAMOptions

    def __init__(
        self, options: CBAMOptions, channels: int, attention_addition: bool = True
    ) -> None:
        super().__init__()
        self.attention_addition = attention_addition
        inner = bottleneck("cbam_reduction", options.cbam_reduction, channels)
        first, last = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.mlp = nn.Sequential(first, nn.ReLU(), last)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)
        nn.init.zeros_(first.bias)
        nn.init.zeros_(last.bias)
        nn.init.kaiming_normal_(self.spatial.weight, mode="fan_out")
        nn.init.zeros_(self.bn.weight)

    @classmethod
    def build(
        cls,
        options: Options,
        channels: int,
        spatial: tuple[int, int],
        attention_addition: bool,
        backend: str,
    ) -> CBAM:
        """Make it; see ``Decomposition.build``."""
        assert isinstance(options, CBAMOptions)
        cls.require_reference(backend)
        return cls(options, channels, attention_addition)

    def mask(self, x: Tensor) -> Tensor:
        """Mc Ms, what X is multiplied by: [B, D, H, W], between 0 and 1."""
        # amax, not max: its gradient is shared by equal values and repeats to the bit on a GPU.
        pooled = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        of_channels = pooled.sigmoid()[:, :, None, None]
        gated = of_channels * x
        maps = torch.cat([gated.amax(1, keepdim=True), gated.mean(1, keepdim=True)], 1)
        mask: Tensor = of_channels * self.bn(self.spatial(maps)).sigmoid()
        return mask

    def decompose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mc Ms X and the rest of X, [B, D, H, W] each."""
        class_related = self.mask(x) * x
        return class_related, x - class_related
