"""The Attentive Feature Augmentation module (Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ltvr.afa import functional, reference
from ltvr.afa.arguments import MaskAxis, Projection
from ltvr.afa.checks import (
    check_choice,
    check_features,
    check_flag,
    check_integer,
)
from ltvr.afa.plan import SynthesisPlan
from ltvr.config.options import Options, option
from ltvr.decompositions.base import Decomposition, bottleneck
from ltvr.errors import UserError, brief

__all__ = ["AFA", "AFAOptions"]

Initialisation = Literal["identity", "uniform"]

_MOST_FACTOR = 1e4
"""Of the weights at the start and of the mask: more than any use, and within float16."""
WIDEST = 2**14
"""Positions (or channels) of the widest projections: 3 GB of weights in float32."""


@dataclass(frozen=True)
class AFAOptions(Options):
    """AFA.

    None of them depends on the size of the features, so that a method is the same on any network.
    """

    projection: Projection = option(
        "linear", "of Q, K, V: over positions, or over channels", architecture=True
    )
    mask_axis: MaskAxis = option("spatial", "axis of the mask's softmax (eq. 3)", architecture=True)
    mask_mean: float | None = option(
        None,
        "mean of the mask, whatever the axis is long; none: eq. 3 to the letter, which is 1 / N",
        above=0,
        at_most=_MOST_FACTOR,
        architecture=True,
    )
    initialisation: Initialisation = option(
        "identity", "of W_Q, W_K, W_V: features start in the space of X, or as a linear layer"
    )
    value_scale: float = option(
        1.0,
        "factor on W_V at the start; 1 / (1 - mask_mean) starts real and generated rows alike",
        at_least=0,
        at_most=_MOST_FACTOR,
    )
    attention_scale: float = option(
        1.0,
        "factor on W_Q and W_K at the start; near 0 all channels attend to all alike",
        at_least=0,
        at_most=_MOST_FACTOR,
    )
    reduction: int = option(
        16, "r of the squeeze-and-excitation bottleneck", at_least=1, architecture=True
    )


class AFA(Decomposition):
    """Attentive feature augmentation between two stages of a residual backbone.

    Args:
        channels: D of the feature map.
        spatial: (H, W) of the feature map, which the linear projections are bound to.
        attention_addition: add X_class to the features (eq. 6); False is Table VII.
        backend: of ``ltvr.afa.functional``.
        **options: the fields of ``AFAOptions``.

    Raises:
        TypeError: an argument of another type, by name.
        ValueError: an argument out of its range, by name.
    """

    options_type = AFAOptions

    def __init__(
        self,
        channels: int,
        spatial: tuple[int, int],
        *,
        attention_addition: bool = True,
        backend: str = "auto",
        **options: Any,
    ) -> None:
        super().__init__()
        self.options = AFAOptions(**options)
        check_choice("backend", backend, functional.Backend)
        check_flag("attention_addition", attention_addition)
        channels = check_integer("channels", channels, 1, "the number of channels, at least 1")
        height, width = _check_spatial(spatial)
        inner = bottleneck("reduction", self.options.reduction, channels)
        self.channels = channels
        self.spatial = (height, width)
        self.attention_addition = attention_addition
        self.backend = backend
        self.value_scale = self.options.value_scale or 1.0
        size = height * width if self.options.projection == "linear" else channels
        if max(size, channels) > WIDEST:
            raise UserError(
                f"features of {channels} channels, {height}x{width} positions: AFA takes at most "
                f"{WIDEST} channels, and with linear projections as many positions; lower "
                "--image-size, --insert-after a later stage, or say --projection conv1x1"
            )
        self.w_q = nn.Parameter(torch.empty(size, size))
        self.w_k = nn.Parameter(torch.empty(size, size))
        self.w_v = nn.Parameter(torch.empty(size, size))
        self.w_1 = nn.Parameter(torch.empty(inner, channels))
        self.w_2 = nn.Parameter(torch.empty(channels, inner))
        self.reset_parameters()

    @classmethod
    def build(
        cls,
        options: Options,
        channels: int,
        spatial: tuple[int, int],
        attention_addition: bool,
        backend: str,
    ) -> AFA:
        """Make AFA of a configuration; see ``Decomposition.build``."""
        return cls(
            channels,
            spatial,
            attention_addition=attention_addition,
            backend=backend,
            **vars(options),
        )

    def reset_parameters(self) -> None:
        """Draw the weights anew: projections as ``initialisation``, SE as a linear layer."""
        for w in (self.w_q, self.w_k, self.w_v):
            if self.options.initialisation == "identity":
                nn.init.eye_(w)
            else:
                nn.init.uniform_(w, -(w.shape[0] ** -0.5), w.shape[0] ** -0.5)
        with torch.no_grad():
            self.w_v.mul_(self.options.value_scale)
            self.w_q.mul_(self.options.attention_scale)
            self.w_k.mul_(self.options.attention_scale)
        for w in (self.w_1, self.w_2):
            nn.init.uniform_(w, -(w.shape[1] ** -0.5), w.shape[1] ** -0.5)

    def extra_repr(self) -> str:
        """Show the settings in ``print(module)``."""
        height, width = self.spatial
        shown = ", ".join(f"{name}={value}" for name, value in vars(self.options).items())
        return (
            f"{self.channels}, {height}x{width}, {shown}, "
            f"attention_addition={self.attention_addition}"
        )

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.w_q, self.w_k, self.w_v, self.w_1, self.w_2

    def _equations(self, x: Tensor) -> dict[str, Any]:
        """The options of the equations for features of the shape of ``x``."""
        mean, axis = self.options.mask_mean, self.options.mask_axis
        along = x.shape[2] * x.shape[3] if axis == "spatial" else self.channels
        return {
            "mask_axis": axis,
            "mask_gain": 1.0 if mean is None else mean * along,
            "projection": self.options.projection,
        }

    def _check(self, x: Tensor) -> None:
        check_features("features", x, "B, D, H, W")
        if x.shape[1] != self.channels:
            raise ValueError(
                f"features of shape {list(x.shape)}: expected [B, {self.channels}, H, W]; "
                "build AFA for the stage it is inserted after"
            )
        if self.options.projection == "linear" and tuple(x.shape[2:]) != self.spatial:
            height, width = self.spatial
            raise ValueError(
                f"features of {x.shape[2]}x{x.shape[3]} positions: this AFA was built for "
                f"{height}x{width}; resize the images to the resolution it was built for, or "
                "build it for this one (projection='conv1x1' takes any)"
            )

    def decompose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """X_class = M V and X_var = V - X_class (eq. 4 and 5), [B, D, H, W] each.

        Raises:
            ValueError: x of another number of channels or another resolution.
        """
        self._check(x)
        _, class_related, variation_related = functional.decompose(
            x, *self._weights(), backend=self.backend, **self._equations(x)
        )
        return class_related, variation_related

    def forward(self, x: Tensor) -> Tensor:
        """Enhanced features X + X_class (eq. 6), [B, D, H, W] -> [B, D, H, W].

        Raises:
            ValueError: x of another number of channels or another resolution.
        """
        self._check(x)
        if not self.attention_addition:
            return x
        return functional.enhance(x, *self._weights(), backend=self.backend, **self._equations(x))

    def mask(self, x: Tensor) -> Tensor:
        """The decomposition mask M (eq. 3) [B, D, H, W], to look at."""
        self._check(x)
        return reference.decomposition_mask(x, *self._weights(), **self._equations(x))

    def generate(self, x: Tensor, plan: SynthesisPlan) -> Tensor:
        """Real and generated rows in one pass (eq. 1-6 and 11); see ``Decomposition.generate``.

        The fused pass is of the paper's generation; another takes the parts from ``decompose``.

        Raises:
            TypeError, ValueError: features, or a plan of another batch, that do not fit, by name.
        """
        self._check(x)
        if not self.generation.is_equation_11:
            return super().generate(x, plan)
        return functional.augment(
            x,
            *self._weights(),
            plan,
            attention_addition=self.attention_addition,
            backend=self.backend,
            **self._equations(x),
        )


def _check_spatial(spatial: Any) -> tuple[int, int]:
    try:
        height, width = spatial
    except (TypeError, ValueError):
        raise TypeError(f"spatial = {brief(spatial)}: expected (H, W)") from None
    expected = "two whole numbers, H and W, of at least 1"
    height = check_integer("spatial[0]", height, 1, expected)
    return height, check_integer("spatial[1]", width, 1, expected)
