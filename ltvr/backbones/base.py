"""The interface of a family of backbones, and of a backbone that is taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ltvr.backbones.options import Stem
from ltvr.config.slots import Component
from ltvr.errors import UserError

__all__ = ["Family", "Normalisation", "Parts", "dry_run", "in_mode"]


class Normalisation(NamedTuple):
    """Of the images that weights were trained on, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Parts(NamedTuple):
    """A backbone without its classifier, as modules that are called one after the other."""

    modules: dict[str, nn.Module]
    """By name, in order: the first takes images [B, 3, S, S], the last gives embeddings [B, E]."""
    stages: dict[str, tuple[int, int, int]]
    """Of the modules after which there are maps, in order: (D, H, W)."""
    embedding_dim: int
    """E."""
    channels_last: bool = False
    """Whether the maps are [B, H, W, D] between the modules, and not [B, D, H, W]."""


class Family(Component):
    """Backbones that are built alike.

    What they are built with is imported in ``build`` and ``names``, not before: to read a
    configuration takes no library of networks.
    """

    stems: ClassVar[tuple[Stem, ...]] = ("imagenet", "cifar", "stride2")
    """The first layers that it can have; a backbone is built with the first of them."""

    def names(self) -> list[str]:
        """The names of its backbones, or a pattern such as ``timm:NAME``, for errors."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        """Whether a backbone of this name is one of the family."""
        return name in self.names()

    def build(self, name: str, pretrained: bool, image_size: int | None) -> nn.Module:
        """Build a backbone with its own classifier.

        Args:
            image_size: for backbones that are made for one size; None is their own.

        Raises:
            UserError: a name that the family's library does not know, or a size it cannot have.
            OSError: weights that cannot be downloaded.
        """
        raise NotImplementedError

    def meant(self, name: str) -> str:
        """The name in the family that an unknown ``name`` may stand for; empty for none."""
        return ""

    def normalisation(self, name: str) -> Normalisation:
        """What the images were normalised by that the pretrained weights of ``name`` saw.

        Raises:
            UserError: there are no such weights.
        """
        raise UserError(f"pretrained: there are no weights for {name!r}; use --no-pretrained")

    def parts(self, backbone: nn.Module, image_size: int) -> Parts | None:
        """Take a backbone apart; None where it is not built as those of the family are.

        This is how residual networks are: the children in order, those called ``layer...`` the
        stages, and the linear ``fc`` at the end, before which the maps are flattened.

        Args:
            image_size: S, in pixels, that the sizes of the maps are for.

        Raises:
            UserError: a backbone of the family that cannot be taken apart, or not at this size.
            RuntimeError, ValueError: images that are too small for it.
        """
        children = dict(backbone.named_children())
        stages = [name for name in children if name.startswith("layer")]
        if not stages or not isinstance(children.get("fc"), nn.Linear):
            return None
        if hasattr(backbone, "feature_info"):  # timm's, which says itself where its stages are
            return None
        names = list(children)[: list(children).index("fc")]
        modules = {name: children[name] for name in names} | {"flatten": nn.Flatten(1)}
        x = torch.empty(1, 3, image_size, image_size, device="meta")
        shapes = {}
        for name, module in modules.items():
            x = dry_run(module, x, training=False)
            if name in stages:
                shapes[name] = (x.shape[1], x.shape[2], x.shape[3])
        return Parts(modules, shapes, x.shape[1])


def dry_run(module: nn.Module, x: Tensor, training: bool | None = None) -> Any:
    """What ``module`` gives for ``x``, both on torch's meta device.

    Its errors are the module's own; it costs next to nothing at any size, reads no weight, and
    leaves statistics and generators of random numbers as they are.

    Args:
        x: an input that has a shape and no values.
        training: the mode of the whole module; None runs every part in the mode that it is in.
    """
    tensors = chain(module.named_parameters(), module.named_buffers())
    meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    mode = nullcontext() if training is None else in_mode(module, training)
    with mode, torch.no_grad(), torch.random.fork_rng(devices=[]):
        return torch.func.functional_call(module, meta, (x,))


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put every part of ``module`` in this mode, and at the end back in the one that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
