"""The interface of a decomposition, and what follows from it: eq. 6 and 11."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from ltvr.afa.checks import check_features
from ltvr.afa.generation import Generation
from ltvr.afa.plan import SynthesisPlan, check_fit, check_plan
from ltvr.afa.planning import plan_synthesis
from ltvr.config.options import Options
from ltvr.config.slots import Component
from ltvr.errors import UserError
from ltvr.normalisation import statistics_left
from ltvr.transfer import to_device

__all__ = ["Decomposition", "bottleneck"]

Self = TypeVar("Self", bound="Decomposition")


class Decomposition(Component, nn.Module):
    """Splits features X [B, D, H, W] into X_class and X_var of the same shape.

    A subclass states ``build`` and ``decompose``; enhancement and generation follow, and may be
    overridden by something faster.
    """

    attention_addition: bool = True
    """Whether the real rows are X + X_class (eq. 6) or X."""
    backend: str = "reference"
    """What runs it, a name of ``ltvr.afa.functional.Backend``."""
    generation: Generation = Generation()
    """How rows are generated from the two parts."""
    value_scale: float = 1.0
    """How many X are X_class + X_var when training begins."""

    @classmethod
    def build(
        cls: type[Self],
        options: Options,
        channels: int,
        spatial: tuple[int, int],
        attention_addition: bool,
        backend: str,
    ) -> Self:
        """Make the decomposition of features ``[B, channels, *spatial]``.

        Args:
            options: of the class's own ``options_type``.
            backend: to be refused where this decomposition has no such implementation.

        Raises:
            UserError: options that do not fit the features, or no such implementation.
        """
        raise NotImplementedError

    @classmethod
    def require_reference(cls, backend: str) -> None:
        """Refuse every ``backend`` but the reference, for a decomposition in plain PyTorch.

        Raises:
            UserError: another one.
        """
        if backend != "reference":
            raise UserError(
                f"--fused: there are no fused kernels of {cls.__name__}, but of AFA alone; drop "
                "it, or say --no-fused"
            )

    def decompose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """X_class and X_var of the features X, all [B, D, H, W]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The enhanced features X + X_class (eq. 6), or X without attention addition."""
        return x + self.decompose(x)[0] if self.attention_addition else x

    def generate(self, x: Tensor, plan: SynthesisPlan) -> Tensor:
        """The (enhanced) real rows, and after them X_class[i_g] + X_var[j_g] (eq. 11).

        With another ``generation`` than the paper's, what that makes of the two parts.

        Args:
            x: [B, D, H, W].
            plan: of the B labels, on the device of ``x``.

        Returns:
            [B+G, D, H, W].

        Raises:
            TypeError, ValueError: features, or a plan of another batch, that do not fit, by name.
        """
        check_features("features", x, "B, D, H, W")
        check_plan(plan)
        check_fit(plan, x.shape[0], x.device)
        apart = self.generation.stops_features
        source = x.detach() if apart else x
        moved = apart and self.attention_addition  # by the real rows, further down
        with statistics_left(self) if moved else nullcontext():
            class_related, variation_related = self.decompose(source)
        rows = source + class_related if self.attention_addition else source
        generated = self.generation.rows(
            rows, class_related, variation_related, plan, self.value_scale
        )
        return torch.cat([self(x) if apart else rows, generated])

    def mask(self, x: Tensor) -> Tensor:
        """What it takes for class-related, to look at: [B, D, H, W], by default ``|X_class|``."""
        return self.decompose(x)[0].abs()

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
        """Real and generated features of one training batch (Algorithm 1), and their labels.

        Args:
            x: [B, D, H, W].
            labels: [B] integers on the host: the plan is made there, without waiting for a device.
            gamma, alpha, seed, step: see ``ltvr.plan_synthesis``.

        Returns:
            features [B+G, D, H, W], real ones first, and labels [B+G], on the device of ``x``.

        Raises:
            ValueError, TypeError: features or labels that do not fit, by name.
        """
        check_features("features", x, "B, D, H, W")
        plan = plan_synthesis(labels, gamma=gamma, alpha=alpha, seed=seed, step=step)
        if len(labels) != len(x):
            raise ValueError(f"labels: expected as many as features, {len(x)}, got {len(labels)}")
        plan, labels = plan.to(x.device), to_device(labels, x.device)
        return self.generate(x, plan), torch.cat([labels, plan.labels])


def bottleneck(name: str, reduction: int, channels: int, least: int = 1) -> int:
    """Channels of a bottleneck, ``channels / reduction`` rounded down.

    Args:
        name: of the option that sets the reduction.
        least: how many there have to be.

    Raises:
        UserError: there would be fewer.
    """
    if channels // reduction < least:
        raise UserError(
            f"{name} = {reduction}: expected 1 to {channels // least}, since the features have "
            f"{channels} channels; lower it"
        )
    return channels // reduction
