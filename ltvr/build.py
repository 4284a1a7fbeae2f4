"""The model and device that a configuration describes."""

from __future__ import annotations

import torch

from ltvr.backbone import build_backbone
from ltvr.config import Config
from ltvr.errors import UserError
from ltvr.functional import resolve_backend
from ltvr.model import LTVR

__all__ = ["autocast", "build_model", "choose_backend", "choose_device"]


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        UserError: cuda where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch sees no CUDA device; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Context of the configuration's mixed precision, for training and evaluation alike."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.amp)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def choose_backend(config: Config, device: torch.device) -> str:
    """Name what runs AFA: the reference, or with ``fused`` Triton on CUDA and C++ on a CPU.

    Raises:
        UserError: ``fused`` where its kernels do not run.
    """
    if not config.fused:
        return "reference"
    try:
        return resolve_backend("triton" if device.type == "cuda" else "cpp", device)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--fused: {error}; or run the reference with --no-fused") from None


def build_model(config: Config, num_classes: int, backend: str | None = None) -> LTVR:
    """Build the model of a configuration; weights are drawn from torch's global generator.

    Args:
        backend: of AFA; default: what the configuration asks for on its own device.

    Raises:
        UserError: a part that does not exist or does not fit, or kernels that do not run.
    """
    backend = backend or choose_backend(config, choose_device(config.device))
    try:
        return LTVR(
            build_backbone(config.backbone, config.stem, config.pretrained),
            num_classes,
            config.insert_after if config.method == "ltvr" else None,
            image_size=config.image_size,
            reduction=config.reduction,
            projection=config.projection,
            mask_axis=config.mask_axis,
            mask_gain=config.mask_gain,
            attention_addition=config.attention_addition,
            initialisation=config.initialisation,
            backend=backend,
            value_scale=config.value_scale,
            attention_scale=config.attention_scale,
        )
    except (ValueError, ModuleNotFoundError) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(
            f"pretrained weights of {config.backbone} cannot be downloaded "
            f"({' '.join(str(error).split())}); use --no-pretrained"
        ) from None
