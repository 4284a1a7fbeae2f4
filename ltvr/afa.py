"""The Attentive Feature Augmentation module (Algorithm 1)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ltvr import functional, reference
from ltvr.planning import SynthesisPlan, plan_synthesis
from ltvr.reference import MaskAxis, Projection
from ltvr.transfer import to_device

__all__ = ["AFA", "Initialisation"]

Initialisation = Literal["identity", "uniform"]


def _expect(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(allowed)}")


class AFA(nn.Module):
    """Attentive feature augmentation between two stages of a residual backbone.

    Args:
        channels: D of the feature map.
        spatial: (H, W) of the feature map, which the linear projections are bound to.
        reduction: r of the squeeze-and-excitation bottleneck.
        projection: ``linear`` ([N, N] over positions) or ``conv1x1`` ([D, D] over channels,
            independent of the resolution).
        mask_axis: axis of the mask's softmax, ``spatial`` or ``channel``.
        mask_gain: factor on the mask; 1 is eq. 3 to the letter.
        attention_addition: add X_class to the features (eq. 6); False is Table VII.
        initialisation: of W_Q, W_K, W_V. ``identity`` starts synthetic features in the space of
            the real ones; ``uniform`` is PyTorch's default for a linear layer.
        value_scale: factor on W_V at the start. With identities and a mask that averages m, real
            rows have (1 + m c) times the mean of X and generated ones c times it, c this factor:
            they are alike at c = 1 / (1 - m).
        attention_scale: factor on W_Q and W_K at the start. Near 0 every channel attends to all
            alike and the mask starts flat: the enhanced features begin as a multiple of X.
        backend: of ``ltvr.functional``.

    Raises:
        ValueError: an argument out of its range, by name.
    """

    def __init__(
        self,
        channels: int,
        spatial: tuple[int, int],
        *,
        reduction: int = 16,
        projection: Projection = "linear",
        mask_axis: MaskAxis = "spatial",
        mask_gain: float = 1.0,
        attention_addition: bool = True,
        initialisation: Initialisation = "identity",
        value_scale: float = 1.0,
        attention_scale: float = 1.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        _expect("projection", projection, get_args(Projection))
        _expect("mask_axis", mask_axis, get_args(MaskAxis))
        _expect("initialisation", initialisation, get_args(Initialisation))
        _expect("backend", backend, get_args(functional.Backend))
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction = {reduction}: expected 1 to channels = {channels}")
        self.channels = channels
        self.spatial = (int(spatial[0]), int(spatial[1]))
        self.projection: Projection = projection
        self.mask_axis: MaskAxis = mask_axis
        self.mask_gain = float(mask_gain)
        self.attention_addition = attention_addition
        self.initialisation = initialisation
        self.value_scale = value_scale
        self.attention_scale = attention_scale
        self.backend = backend
        width = self.spatial[0] * self.spatial[1] if projection == "linear" else channels
        self.w_q = nn.Parameter(torch.empty(width, width))
        self.w_k = nn.Parameter(torch.empty(width, width))
        self.w_v = nn.Parameter(torch.empty(width, width))
        self.w_1 = nn.Parameter(torch.empty(channels // reduction, channels))
        self.w_2 = nn.Parameter(torch.empty(channels, channels // reduction))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: projections as ``initialisation``, SE as a linear layer."""
        for w in (self.w_q, self.w_k, self.w_v):
            if self.initialisation == "identity":
                nn.init.eye_(w)
            else:
                nn.init.uniform_(w, -(w.shape[0] ** -0.5), w.shape[0] ** -0.5)
        with torch.no_grad():
            self.w_v.mul_(self.value_scale)
            self.w_q.mul_(self.attention_scale)
            self.w_k.mul_(self.attention_scale)
        for w in (self.w_1, self.w_2):
            nn.init.uniform_(w, -(w.shape[1] ** -0.5), w.shape[1] ** -0.5)

    def extra_repr(self) -> str:
        """Show the settings in ``print(module)``."""
        height, width = self.spatial
        return (
            f"{self.channels}, {height}x{width}, projection={self.projection}, "
            f"mask_axis={self.mask_axis}, mask_gain={self.mask_gain:g}, "
            f"attention_addition={self.attention_addition}"
        )

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.w_q, self.w_k, self.w_v, self.w_1, self.w_2

    def _options(self) -> dict[str, Any]:
        return {
            "mask_axis": self.mask_axis,
            "mask_gain": self.mask_gain,
            "projection": self.projection,
        }

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f"features of shape {list(x.shape)}: expected [B, {self.channels}, H, W]; "
                "build AFA for the stage it is inserted after"
            )
        if self.projection == "linear" and tuple(x.shape[2:]) != self.spatial:
            height, width = self.spatial
            raise ValueError(
                f"features of {x.shape[2]}x{x.shape[3]} positions: this AFA was built for "
                f"{height}x{width}; resize the images to the resolution it was built for, or "
                "build it for this one (projection='conv1x1' takes any)"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Enhanced features X + X_class (eq. 6), [B, D, H, W] -> [B, D, H, W].

        Raises:
            ValueError: x of another number of channels or another resolution.
        """
        self._check(x)
        if not self.attention_addition:
            return x
        return functional.enhance(x, *self._weights(), backend=self.backend, **self._options())

    def mask(self, x: Tensor) -> Tensor:
        """Return the decomposition mask M (eq. 3) [B, D, H, W], to look at."""
        self._check(x)
        return reference.decomposition_mask(x, *self._weights(), **self._options())

    def augment(
        self,
        x: Tensor,
        labels: Tensor,
        gamma: float = 1.0,
        alpha: float = 4.0,
        *,
        seed: int,
        step: int,
    ) -> tuple[Tensor, Tensor]:
        """Real and generated features of one training batch (Algorithm 1).

        Args:
            x: [B, D, H, W].
            labels: [B] integers on the host: the plan is made there, without waiting for a device.
            gamma, alpha, seed, step: see ``ltvr.plan_synthesis``.

        Returns:
            features [B+G, D, H, W], real ones first, and labels [B+G], on the device of ``x``.

        Raises:
            ValueError, TypeError: features or labels that do not fit, by name.
        """
        plan = plan_synthesis(labels, gamma=gamma, alpha=alpha, seed=seed, step=step)
        return self.augment_planned(x, to_device(labels, x.device), plan.to(x.device))

    def augment_planned(
        self, x: Tensor, labels: Tensor, plan: SynthesisPlan
    ) -> tuple[Tensor, Tensor]:
        """As ``augment``, with a plan already made; labels and plan on the device of ``x``."""
        self._check(x)
        if x.shape[0] != labels.shape[0] or plan.class_offsets.shape[0] != x.shape[0] + 1:
            raise ValueError(
                f"{x.shape[0]} features, {labels.shape[0]} labels and a plan for "
                f"{plan.class_offsets.shape[0] - 1}: expected the same number; plan this batch"
            )
        return functional.augment(
            x,
            labels,
            *self._weights(),
            plan,
            attention_addition=self.attention_addition,
            backend=self.backend,
            **self._options(),
        )
