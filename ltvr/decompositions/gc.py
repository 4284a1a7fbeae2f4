"""The global context block in the place of the feature decomposition, as a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from ltvr.config.options import Options, option
from ltvr.decompositions.base import Decomposition, bottleneck

__all__ = ["GC", "GCOptions"]

Self = TypeVar("Self", bound="GC")


@dataclass(frozen=True)
class GCOptions(Options):
    """Global context block."""

    gc_reduction: int = option(
        16, "r of the bottleneck; the ratio 1 / r (1/16, also 1/4)", at_least=1, architecture=True
    )


class GC(Decomposition):
    """X_class = sigmoid(t) X, X_var = X - X_class, with t [D] a transform of the global context.

    Cao et al., GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, ICCV 2019
    workshops, with attention pooling: the context is sum_n a_n x_n, with a the softmax over the
    positions of a 1x1 convolution D -> 1, whose bias would cancel, and
    t = W_2 ReLU(LayerNorm(W_1 context)) with a bottleneck D / r. As in the authors' code the first
    convolution starts by Kaiming's normal initialisation and W_2 at 0, so that the mask starts at
    1/2.

    It is the row "LTVR(GC Blocks)" of Table V. The paper does not tell how the block splits the
    features: this is its fusion ``channel_mul``, ``gc-add`` is ``channel_add``.

    Args:
        options: see ``GCOptions``.
        channels: D of the feature map.
        attention_addition: see ``Decomposition``.
    """

    options_type = GCOptions

    def __init__(self, options: GCOptions, channels: int, attention_addition: bool = True) -> None:
        super().__init__()
        self.attention_addition = attention_addition
        inner = bottleneck("gc_reduction", options.gc_reduction, channels, least=2)
        self.attend = nn.Conv2d(channels, 1, 1, bias=False)
        last = nn.Conv2d(inner, channels, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.LayerNorm([inner, 1, 1]),
            nn.ReLU(),
            last,
        )
        nn.init.kaiming_normal_(self.attend.weight, mode="fan_in", nonlinearity="relu")
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    @classmethod
    def build(
        cls: type[Self],
        options: Options,
        channels: int,
        spatial: tuple[int, int],
        attention_addition: bool,
        backend: str,
    ) -> Self:
        """Make it; see ``Decomposition.build``."""
        assert isinstance(options, GCOptions)
        cls.require_reference(backend)
        return cls(options, channels, attention_addition)

    def context(self, x: Tensor) -> Tensor:
        """t, the transformed context of X: [B, D, 1, 1]."""
        attention = self.attend(x).flatten(2).softmax(2)  # [B, 1, N]
        pooled = x.flatten(2) @ attention.transpose(1, 2)  # [B, D, 1]
        t: Tensor = self.transform(pooled[..., None])
        return t

    def mask(self, x: Tensor) -> Tensor:
        """sigmoid(t), what X is multiplied by: [B, D, H, W], alike at all positions."""
        return self.context(x).sigmoid().expand_as(x)

    def decompose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """sigmoid(t) X and the rest of X, [B, D, H, W] each."""
        class_related = self.mask(x) * x
        return class_related, x - class_related
