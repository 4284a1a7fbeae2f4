"""A trained model, back from its run folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from ltvr.build import build_model, choose_backend, choose_device
from ltvr.checkpoint import load_checkpoint, load_weights
from ltvr.config import Config, Parser
from ltvr.errors import UserError
from ltvr.model import LTVR
from ltvr.runs import Run

__all__ = ["load_trained", "trained_parser"]


def trained_parser(command: str, description: str) -> Parser:
    """Return the parser of a command that reads a run, with the arguments that all of them have."""
    p = Parser(prog=f"python -m ltvr.{command}", description=description)
    p.add_argument("run", type=Path, help="run folder, or a checkpoint in it")
    p.add_argument(
        "--fused",
        action=argparse.BooleanOptionalAction,
        help="AFA by the fused kernels of the device, or by the reference (as it was trained)",
    )
    return p


def load_trained(
    path: Path, device: str = "auto", fused: bool | None = None
) -> tuple[LTVR, Config, Run, list[str]]:
    """Load the model of a run in eval mode.

    Args:
        path: a run folder (its ``final.pt``) or one of its checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
        fused: AFA by the fused kernels of the device or by the reference; None: as the run.

    Returns:
        The model, its configuration, the run, and the names of the classes.

    Raises:
        UserError: no run, an unfinished one, weights that do not fit its configuration, or fused
            kernels that do not run here.
    """
    run = Run.open(path)
    weights = path if path.suffix == ".pt" else run.final
    if not weights.is_file():
        raise UserError(
            f"{run.folder} is not finished; go on with --resume, or name one of its .pt"
        )
    config, classes = run.config(), run.manifest()["classes"]
    if fused is not None:
        config = replace(config, fused=fused)
    place = choose_device(device)
    model = build_model(
        replace(config, pretrained=False), len(classes), choose_backend(config, place)
    )
    load_weights(model, load_checkpoint(weights)["model"], weights)
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    model.to(place).to(memory_format=memory_format)
    return model.eval(), config, run, classes
