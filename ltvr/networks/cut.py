"""A residual backbone cut in two where the decomposition goes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ltvr.errors import UserError

__all__ = ["BackboneParts", "cut_backbone", "feature_shape"]


class BackboneParts(NamedTuple):
    """A backbone cut in two, without its classifier."""

    extractor: nn.Sequential
    """Images [B, 3, S, S] to features [B, D, H, W]."""
    embedder: nn.Sequential
    """Features [B, D, H, W] to embeddings [B, E]."""
    embedding_dim: int


def cut_backbone(backbone: nn.Module, insert_after: str) -> BackboneParts:
    """Cut a residual backbone after stage ``insert_after`` (``layer1``, ``layer2``, ...).

    Raises:
        UserError: not such a backbone, or no such stage.
    """
    parts = [name for name, _ in backbone.named_children()]
    stages = [name for name in parts if name.startswith("layer")]
    classifier = getattr(backbone, "fc", None)
    if not stages or not isinstance(classifier, nn.Linear):
        raise UserError(
            f"backbone {type(backbone).__name__}: expected a residual network of torchvision or "
            f"timm with the parts layer1, layer2, ... and fc, got {', '.join(parts)}"
        )
    if insert_after not in stages:
        raise UserError(f"insert_after = {insert_after!r}: expected one of {', '.join(stages)}")
    extractor, embedder = nn.Sequential(), nn.Sequential()
    part = extractor
    for name, child in backbone.named_children():
        if name == "fc":
            break
        part.add_module(name, child)
        if name == insert_after:
            part = embedder
    embedder.add_module("flatten", nn.Flatten(1))
    return BackboneParts(extractor, embedder, classifier.in_features)


@torch.no_grad()
def feature_shape(extractor: nn.Module, image_size: int) -> tuple[int, int, int]:
    """(D, H, W) of the features the extractor gives for square images of ``image_size``."""
    training = extractor.training
    shape = extractor.eval()(torch.zeros(1, 3, image_size, image_size)).shape
    extractor.train(training)
    return int(shape[1]), int(shape[2]), int(shape[3])
