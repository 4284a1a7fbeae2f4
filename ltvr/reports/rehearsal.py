"""What a dry run found, in lines for a terminal."""

from __future__ import annotations

import torch

from ltvr.engine import memory
from ltvr.engine.rehearsal import MicroBatchCost, Phase, Rehearsal
from ltvr.reports.numbers import duration

__all__ = ["rehearsal_lines"]


def rehearsal_lines(found: Rehearsal, device: torch.device) -> list[str]:
    """Parameters, checkpoints, each phase of each stage, and the time of the whole run."""
    last = f"last.pt {_size(found.checkpoint)}, all checkpoints {_size(found.folder)}"
    lines = [
        f"{found.parameters:,} parameters; weights {_size(found.weights)}, {last}",
        *map(_phase, found.phases),
    ]
    has = memory.capacity(device)
    if any(phase.cost.peak > has for phase in found.phases):
        where = "the device" if device.type == "cuda" else "this machine"
        lines.append(
            f"that is more than the {_size(has)} of {where}: raise --accumulate, or lower "
            "--batch-size"
        )
    estimated = any(phase.estimated for phase in found.phases)
    lines.append(
        f"whole run: about {duration(found.seconds)}"
        f"{' (from estimates)' if estimated else ''}, evaluation included and the reading of "
        "images left out"
    )
    return lines


def _phase(phase: Phase) -> str:
    """A line on a phase of a stage."""
    cost, batch = phase.cost, phase.cost.images * phase.accumulate
    made = f" and {cost.generated} generated" if cost.generated else ""
    parts = f", in {phase.accumulate} parts" if phase.accumulate > 1 else ""
    how = "measured"
    if phase.estimated:
        how = f"an estimate; measured: {'; '.join(map(_measured, phase.measured[-2:]))}"
    epochs = "1 epoch" if phase.epochs == 1 else f"{phase.epochs} epochs"
    return (
        f"{phase.title}, {epochs} of {phase.steps} steps of {batch} images{parts}"
        f"{made}: {_time(phase.step_seconds)} a step, {_size(cost.peak)} of memory ({how})"
    )


def _measured(cost: MicroBatchCost) -> str:
    made = f" and {cost.generated} generated" if cost.generated else ""
    return f"{cost.images} images{made} {_time(cost.seconds)}, {_size(cost.peak)}"


def _time(seconds: float) -> str:
    """A time, of a step say."""
    return duration(seconds) if seconds >= 100 else f"{seconds:.3g} s"


def _size(number: float) -> str:
    """Bytes as people read them."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
