"""A backbone cut in two where the decomposition goes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ltvr.backbones.base import Parts
from ltvr.backbones.build import take_apart
from ltvr.errors import UserError

__all__ = ["EMBEDDING_LAYER", "BackboneParts", "LastMap", "cut", "cut_backbone"]

EMBEDDING_LAYER = "embedding_layer"
"""What the embedder calls the linear layer at its end, where there is one."""


class LastMap(nn.Sequential):
    """Where the maps of the last stage pass: as they are, until a stage of training adds a module.

    Args:
        shape: (D, H, W) of the maps; what is added takes and gives [B, D, H, W].
        channels_last: whether they come, and go on, as [B, H, W, D].
    """

    def __init__(self, shape: tuple[int, int, int], channels_last: bool) -> None:
        super().__init__()
        self.shape, self.channels_last = shape, channels_last

    def forward(self, x: Tensor) -> Tensor:
        """The maps, through what was added."""
        if not len(self):
            return x
        if not self.channels_last:
            maps: Tensor = super().forward(x)
            return maps
        maps = super().forward(x.permute(0, 3, 1, 2))
        return maps.permute(0, 2, 3, 1)


class BackboneParts(NamedTuple):
    """A backbone cut in two, without its classifier."""

    extractor: nn.Sequential
    """Images [B, 3, S, S] to features [B, D, H, W]."""
    embedder: nn.Sequential
    """Features [B, D, H, W] to embeddings [B, E]."""
    embedding_dim: int
    features: tuple[int, int, int]
    """(D, H, W) at the image size that it was cut for."""
    stages: tuple[str, ...]
    """Names of the stages before the decomposition; of all where there is none."""


def cut_backbone(
    backbone: nn.Module, insert_after: str, image_size: int = 224, decomposed: bool = True
) -> BackboneParts:
    """Take a backbone apart and cut it; see ``cut``."""
    return cut(take_apart(backbone, image_size), insert_after, image_size, decomposed)


def cut(parts: Parts, insert_after: str, image_size: int, decomposed: bool) -> BackboneParts:
    """Cut a backbone after stage ``insert_after``, ``layer3`` or ``stages.2`` say.

    The weights have the backbone's own names behind ``extractor.`` and ``embedder.``.

    Args:
        image_size: that it was taken apart for.
        decomposed: whether a decomposition goes there. Where none does, the cut decides the names
            of the weights alone, and is at the last stage if there is none called ``insert_after``.

    Raises:
        UserError: no such stage, or maps there that are too small.
    """
    if not decomposed and insert_after not in parts.stages:
        insert_after = list(parts.stages)[-1]
    if insert_after not in parts.stages:
        raise UserError(
            f"insert_after = {insert_after!r}: expected one of {_listed(parts)}, at "
            f"--image-size {image_size}"
        )
    channels, height, width = parts.stages[insert_after]
    if decomposed and height * width < 2:
        raise UserError(
            f"image_size = {image_size}: the features of {insert_after} would be {height}x{width}, "
            f"and one position is not decomposed; raise --image-size, or --insert-after an earlier "
            f"stage: {_listed(parts)}"
        )
    extractor, embedder = nn.Sequential(), nn.Sequential()
    if parts.channels_last:
        embedder.add_module("channels_last", _Permute(0, 2, 3, 1))
    half, last = extractor, list(parts.stages)[-1]
    for name, module in parts.modules.items():
        _add(half, name, module)
        if name == insert_after:
            half = embedder
        if name == last:
            outer = name.rpartition(".")[0]
            place = LastMap(parts.stages[last], parts.channels_last)
            _add(embedder, f"{outer}.last_map" if outer else "last_map", place)
    if parts.channels_last:
        extractor.add_module("channels_first", _Permute(0, 3, 1, 2))
    names = list(parts.stages)
    stages = tuple(names[: names.index(insert_after) + 1] if decomposed else names)
    features = (channels, height, width)
    return BackboneParts(extractor, embedder, parts.embedding_dim, features, stages)


def _add(half: nn.Sequential, name: str, module: nn.Module) -> None:
    """Append a module by its name, ``stages.2`` as part ``2`` of a sequence ``stages``."""
    outer, _, inner = name.rpartition(".")
    if outer and outer not in dict(half.named_children()):
        half.add_module(outer, nn.Sequential())
    half.get_submodule(outer).add_module(inner, module)


class _Permute(nn.Module):
    """Reorders the dimensions of a tensor."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


def _listed(parts: Parts) -> str:
    return ", ".join(f"{n} ({d} channels, {h}x{w})" for n, (d, h, w) in parts.stages.items())
