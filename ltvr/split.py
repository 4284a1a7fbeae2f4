"""A residual backbone cut in two where AFA goes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

__all__ = ["BackboneParts", "feature_shape", "split_backbone"]


class BackboneParts(NamedTuple):
    """A backbone cut in two where AFA goes, without its classifier."""

    extractor: nn.Sequential
    """Images [B, 3, S, S] to features [B, D, H, W]."""
    head: nn.Sequential
    """Features [B, D, H, W] to embeddings [B, E]."""
    embedding_dim: int


def split_backbone(backbone: nn.Module, insert_after: str) -> BackboneParts:
    """Cut a torchvision or timm ResNet after stage ``insert_after`` (``layer1`` ... ``layer4``).

    Raises:
        ValueError: not such a backbone, or no such stage.
    """
    stages = [n for n, _ in backbone.named_children()]
    needed = ("layer1", "layer4", "fc")
    if not all(n in stages for n in needed) or not isinstance(backbone.fc, nn.Linear):
        raise ValueError(
            f"backbone {type(backbone).__name__}: expected a residual network of torchvision or "
            f"timm with the parts {', '.join(needed)}, got {', '.join(stages)}"
        )
    layers = [n for n in stages if n.startswith("layer")]
    if insert_after not in layers:
        raise ValueError(f"insert_after = {insert_after!r}: expected one of {', '.join(layers)}")
    extractor, head = nn.Sequential(), nn.Sequential()
    part = extractor
    for name, child in backbone.named_children():
        if name == "fc":
            break
        part.add_module(name, child)
        if name == insert_after:
            part = head
    head.add_module("flatten", nn.Flatten(1))
    return BackboneParts(extractor, head, backbone.fc.in_features)


@torch.no_grad()
def feature_shape(extractor: nn.Module, image_size: int) -> tuple[int, int, int]:
    """(D, H, W) of the features the extractor gives for square images of ``image_size``."""
    training = extractor.training
    shape = extractor.eval()(torch.zeros(1, 3, image_size, image_size)).shape
    extractor.train(training)
    return int(shape[1]), int(shape[2]), int(shape[3])
