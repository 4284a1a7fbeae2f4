"""The network that a configuration describes."""

from __future__ import annotations

import torch

from ltvr.afa.functional import resolve_backend
from ltvr.backbones.build import build_backbone
from ltvr.backbones.options import BackboneOptions
from ltvr.classifiers import CLASSIFIERS
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.decompositions import DECOMPOSITIONS
from ltvr.decompositions.base import Decomposition
from ltvr.decompositions.options import DecompositionOptions
from ltvr.errors import UserError
from ltvr.networks.cut import cut_backbone, feature_shape
from ltvr.networks.network import Network
from ltvr.networks.options import NetworkOptions

__all__ = ["build_network", "choose_backend"]


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


def build_network(config: Config, num_classes: int, backend: str) -> Network:
    """Build the network of a configuration; weights are drawn from torch's global generator.

    Args:
        backend: of its decomposition, from ``choose_backend``.

    Raises:
        UserError: a part that does not exist or does not fit.
    """
    options, chosen = config.of(BackboneOptions), config.of(NetworkOptions)
    common, size = config.of(DecompositionOptions), config.of(DataOptions).image_size
    if num_classes < 2:
        raise UserError(f"{num_classes} class: expected at least 2")
    try:
        backbone = build_backbone(options.backbone, options.stem, options.pretrained)
    except OSError as error:
        raise UserError(
            f"pretrained weights of {options.backbone} cannot be downloaded "
            f"({' '.join(str(error).split())}); use --no-pretrained"
        ) from None
    parts = cut_backbone(backbone, common.insert_after)
    decomposition: Decomposition | None = None
    if chosen.decomposition != "none":
        kind = DECOMPOSITIONS.get(chosen.decomposition)
        channels, height, width = feature_shape(parts.extractor, size)
        decomposition = kind.build(
            config.of(kind.options_type),
            channels=channels,
            spatial=(height, width),
            attention_addition=common.attention_addition,
            backend=backend,
        )
    return Network(
        parts.extractor,
        decomposition,
        parts.embedder,
        CLASSIFIERS.build(config, chosen.classifier, parts.embedding_dim, num_classes),
        image_size=size,
    )
