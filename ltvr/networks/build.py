"""The network that a configuration describes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ltvr.afa.functional import resolve_backend
from ltvr.backbones.build import build_backbone, check_pretrained, take_apart
from ltvr.backbones.options import BackboneOptions
from ltvr.classifiers import CLASSIFIERS
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.decompositions import DECOMPOSITIONS
from ltvr.decompositions.base import Decomposition
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.networks.cut import EMBEDDING_LAYER, cut
from ltvr.networks.network import Network
from ltvr.networks.options import NetworkOptions
from ltvr.networks.weights import load_backbone

__all__ = ["build_network", "check_network", "choose_backend"]


def choose_backend(config: Config, device: torch.device) -> str:
    """Name what runs AFA: the reference, or with ``fused`` Triton on CUDA and C++ on a CPU.

    Raises:
        UserError: ``fused`` where its kernels do not run.
    """
    if not config.of(RunOptions).fused:
        return "reference"
    try:
        return resolve_backend("triton" if device.type == "cuda" else "cpp", device)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--fused: {error}; or run the reference with --no-fused") from None


def check_network(config: Config, backend: str) -> None:
    """Refuse a network that could not be built, before data are read or weights downloaded.

    It is built on torch's meta device, which costs a fraction of a second.

    Raises:
        UserError: as ``build_network``.
    """
    options, data = config.of(BackboneOptions), config.of(DataOptions)
    with torch.device("meta"):
        build_network(config.replaced(pretrained=False), 2, backend, say=lambda line: None)
    if not options.pretrained:
        return
    seen = check_pretrained(options.backbone, options.stem)
    if not np.allclose(seen, (data.mean, data.std), atol=0.01):
        mean, std = (" ".join(f"{value:g}" for value in each) for each in seen)
        raise UserError(
            f"pretrained: the weights of {options.backbone} were trained on images of another "
            f"normalisation than mean {data.mean} and std {data.std}; add --mean {mean} "
            f"--std {std}, or --no-pretrained"
        )


def build_network(
    config: Config, num_classes: int, backend: str, say: Callable[[str], None] = print
) -> Network:
    """Build the network of a configuration; weights are drawn from torch's global generator.

    Args:
        backend: of its decomposition, from ``choose_backend``.
        say: what prints the line on the weights that were loaded from a file.

    Raises:
        UserError: a part that does not exist or does not fit.
    """
    options, chosen = config.of(BackboneOptions), config.of(NetworkOptions)
    common, size = config.of(GenerationOptions), config.of(DataOptions).image_size
    if num_classes < 2:
        raise UserError(f"{num_classes} class: expected at least 2")
    decomposed = chosen.decomposition != "none"
    try:
        backbone = build_backbone(options.backbone, options.stem, options.pretrained, size)
    except OSError as error:
        raise UserError(
            f"pretrained weights of {options.backbone} cannot be downloaded "
            f"({' '.join(str(error).split())}); use --no-pretrained"
        ) from None
    whole = take_apart(backbone, size)
    if options.weights:
        data = config.of(DataOptions)
        loaded = load_backbone(whole, options.backbone, Path(options.weights))
        say(f"{loaded}; images have mean {data.mean} and std {data.std}: see that theirs had")
    parts = cut(whole, common.insert_after, size, decomposed)
    decomposition: Decomposition | None = None
    if decomposed:
        kind = DECOMPOSITIONS.get(chosen.decomposition)
        channels, height, width = parts.features
        decomposition = kind.build(
            config.of(kind.options_type),
            channels=channels,
            spatial=(height, width),
            attention_addition=common.attention_addition,
            backend=backend,
        )
        decomposition.generation = common.generation
    embedding_dim = parts.embedding_dim
    if width := chosen.embedding_layer:
        layer = nn.Sequential(nn.Linear(embedding_dim, width), nn.ReLU())
        parts.embedder.add_module(EMBEDDING_LAYER, layer)
        embedding_dim = width
    return Network(
        parts.extractor,
        decomposition,
        parts.embedder,
        CLASSIFIERS.build(config, chosen.classifier, embedding_dim, num_classes),
        image_size=size,
        stages=parts.stages,
        own_statistics=common.generated_batchnorm == "own",
    )
