"""A trained model, back from its run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ltvr.build import build_model, choose_backend, choose_device
from ltvr.checkpoint import load_checkpoint, load_weights
from ltvr.config import Config
from ltvr.errors import UserError
from ltvr.model import LTVR
from ltvr.runs import Run

__all__ = ["load_trained"]


def load_trained(
    path: Path, device: str = "auto", backend: str | None = None
) -> tuple[LTVR, Config, Run, list[str]]:
    """Load the model of a run in eval mode.

    Args:
        path: a run folder (its ``final.pt``) or one of its checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
        backend: of AFA; default: what the run's ``fused`` asks for on this device.

    Returns:
        The model, its configuration, the run, and the names of the classes.

    Raises:
        UserError: no run, an unfinished one, or weights that do not fit its configuration.
    """
    run = Run.open(path)
    weights = path if path.suffix == ".pt" else run.final
    if not weights.is_file():
        raise UserError(
            f"{run.folder} is not finished; go on with --resume, or name one of its .pt"
        )
    config, classes = run.config(), run.manifest()["classes"]
    place = choose_device(device)
    model = build_model(
        replace(config, pretrained=False),
        len(classes),
        backend or choose_backend(config, place),
    )
    load_weights(model, load_checkpoint(weights)["model"], weights)
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    model.to(place).to(memory_format=memory_format)
    return model.eval(), config, run, classes
