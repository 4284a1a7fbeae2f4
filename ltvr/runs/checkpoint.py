"""Checkpoints: everything a run needs to go on to the bit, loadable with ``weights_only``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltvr.errors import UserError
from ltvr.runs import legacy

__all__ = ["FORMAT", "load_checkpoint", "load_weights", "save_checkpoint"]

FORMAT = 2
"""Of the checkpoints that are written; 1 had no number, and is read by ``ltvr.runs.legacy``."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) so that a crash leaves the old."""
    partial = path.with_suffix(".partial")
    torch.save({"format": FORMAT, **state}, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU.

    Raises:
        UserError: a missing file, one that is no checkpoint, or one of a newer ltvr.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} is missing; name a run folder or a .pt file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a checkpoint of ltvr ({first})") from None
    if not isinstance(state, dict) or "model" not in state:
        raise UserError(f"{path} is not a checkpoint of ltvr (it has no model)")
    number = state.get("format", 1)
    if number == 1:
        return legacy.checkpoint(state, path)
    if number != FORMAT:
        raise UserError(f"{path} has format {number}; this ltvr reads up to {FORMAT}: update it")
    return state


def load_weights(model: nn.Module, weights: dict[str, Any], source: Path) -> None:
    """Load ``weights`` into ``model``, all of them.

    Raises:
        UserError: weights of another architecture; names the first part that differs.
    """
    own = model.state_dict()
    for name in [*own, *weights]:
        here = tuple(own[name].shape) if name in own else "absent"
        there = tuple(weights[name].shape) if name in weights else "absent"
        if here != there:
            raise UserError(
                f"{source} is of another architecture: {name} is {there} there and {here} here; "
                "use its run's config.yaml"
            )
    model.load_state_dict(weights)
