"""Loss and accuracy of real and generated rows over training, from the records of a run."""

from __future__ import annotations

from typing import Any

from ltvr.probes.figures import draw_history
from ltvr.probes.lines import Section

__all__ = ["history"]

WHAT = {
    "real_loss": "real loss",
    "real_accuracy": "real accuracy",
    "synthetic_loss": "generated loss",
    "synthetic_accuracy": "generated accuracy",
}


def history(records: list[dict[str, Any]], stage: str) -> Section:
    """The epochs of a stage: the last before generation, the first with it, and the last.

    Args:
        records: of the run, in order.
    """
    own = [record for record in records if record["stage"] == stage]
    with_generated = [n for n, record in enumerate(own) if record["synthetic_loss"] is not None]
    begins = with_generated[0] if with_generated else None
    shown = {0, len(own) - 1} if own else set()
    if begins is not None:
        shown |= {begins - 1, begins} - {-1}
    found = [_said(own[n]) for n in sorted(shown)]
    if begins is not None:
        found.append(f"Generation begins in epoch {own[begins]['epoch']} of {len(own)}.")
    formulas = [
        "Means over an epoch in training mode (augmented images, BatchNorm by the statistics of "
        "the batch, weights that change), from metrics.jsonl.",
    ]
    epochs = [{"epoch": record["epoch"], **{name: record[name] for name in WHAT}} for record in own]
    return Section(
        "history",
        "Loss over training",
        [],
        formulas,
        found,
        {"epochs": epochs, "generation_begins": None if begins is None else own[begins]["epoch"]},
        {"history": draw_history({"": epochs})} if own else {},
    )


def _said(record: dict[str, Any]) -> str:
    """One epoch in words."""
    parts = []
    for kind, name in (("real", "real"), ("synthetic", "generated")):
        loss, accuracy = record[f"{kind}_loss"], record[f"{kind}_accuracy"]
        if loss is not None:
            parts.append(f"{name} rows {loss:.3f} ({accuracy:.1f} % right)")
    return f"Epoch {record['epoch']}: " + ", ".join(parts or ["no loss"]) + "."
