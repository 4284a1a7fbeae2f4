"""What older versions of ltvr wrote, as it is written today.

That is whole folders of 0.1, whose stages had numbers and whose method was a field, and files of
later runs that lack what has come since. Only ``folder.py`` and ``checkpoint.py`` call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltvr.errors import UserError
from ltvr.runs.forms import Form, check, read_json

__all__ = [
    "STAGES",
    "checkpoint",
    "config",
    "is_legacy",
    "later_options",
    "metrics",
    "record",
    "same_images",
    "started",
]

STAGES = {1: "features", 2: "crt"}
PARTS = {"afa.": "decomposition.", "head.": "embedder."}
"""What the parts of a network were called."""

CONFIG: Form = {
    "method": str, "mask_gain": float, "mask_axis": str, "lay_back_epoch": int, "epochs": int,
    "stage1_batchnorm": str, "backbone": str, "stem": str, "insert_after": str, "image_size": int,
    "accumulate": int,
}  # fmt: skip
"""The fields of a ``config.yaml`` that are read here."""
STARTED: Form = {"stages": [int], "command": str}
CHECKPOINT: Form = {"stage": int, "step": int, "average": ({str: Tensor}, None)}
"""What a checkpoint of the state of training held, beside what has the same name today."""


def is_legacy(values: dict[str, Any]) -> bool:
    """Whether the values of a ``config.yaml`` are of ltvr 0.1, which had no field ``stages``."""
    return "crt_epochs" in values and "stages" not in values


def config(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Today's options for the fields of a ``config.yaml`` of 0.1.

    Options that were absolute are relative now: t to the epochs, and the gain of the mask to the
    positions (or channels) that it is over, which the network tells.
    """
    check(values, CONFIG, folder / "config.yaml")
    values = dict(values)
    method = values.pop("method")
    gain, start = values.pop("mask_gain"), values.pop("lay_back_epoch")
    values["features_batchnorm"] = values.pop("stage1_batchnorm")
    values["lay_back_start"] = start / values["epochs"] if values["epochs"] else 0.0
    values["decomposition"] = "afa" if method == "ltvr" else "none"
    if method == "baseline":  # where the backbone was cut decided nothing, but its names
        values["insert_after"], values["lay_back_start"] = "layer3", 0.0
    values["mask_mean"] = None
    if method == "ltvr" and gain != 1:
        channels, height, width = _feature_shape(values)
        values["mask_mean"] = gain / (
            height * width if values["mask_axis"] == "spatial" else channels
        )
    values["stages"], _ = started(folder)
    return {**values, "preset": folder.resolve().name, "method": method}


def later_options(values: dict[str, Any]) -> dict[str, Any]:
    """The options that a run from before them lacks, as it was trained and evaluated without."""
    return {
        "synthesis_group": _synthesis_group(values),
        "sync_bn": False,
        "resize": _resize(values),
        # Nothing was kept, which only a cosine classifier can say: to others it is no option.
        "moving_feature": values.get("classifier") != "cosine",
    }


def _resize(values: dict[str, Any]) -> str:
    """The option ``resize`` of a run from before there was one, by what it was trained on.

    Images on disk were evaluated by their centre, however they had been trained on.
    """
    size = values.get("image_size")
    on_disk = isinstance(size, int) and size > 64
    trained_on_parts = values.get("augmentation") in ("imagenet", "none")
    return "short-side-crop" if on_disk and trained_on_parts else "squash"


def _synthesis_group(values: dict[str, Any]) -> int:
    """The option ``synthesis_group`` of a run from before there was one: a micro-batch.

    Of a run in which samples do not meet it decides nothing, and is what it is by default.
    """
    alone = values.get("decomposition") == "none" and values.get("mixing") == "none"
    size, accumulate = values.get("batch_size"), values.get("accumulate", 1)
    if alone or not (isinstance(size, int) and isinstance(accumulate, int) and accumulate > 0):
        return 32
    return max(size // accumulate, 2)


def same_images(own: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether two records of a split in manifests are of the same images.

    Of images on disk older manifests have a digest of the names, without the contents.
    """
    by_name = "names_sha256" in record and "names_sha256" not in own
    return bool(own["sha256"] == record.get("names_sha256" if by_name else "sha256"))


def _feature_shape(values: dict[str, Any]) -> tuple[int, int, int]:
    from ltvr.backbones.build import build_backbone
    from ltvr.networks.cut import cut_backbone

    with torch.device("meta"):
        backbone = build_backbone(values["backbone"], values["stem"])
        return cut_backbone(backbone, values["insert_after"], values["image_size"]).features


def started(folder: Path) -> tuple[list[str], str]:
    """The stages of a run and the command that began it, from its ``stages.json``."""
    path = folder / "stages.json"
    if not path.is_file():
        raise UserError(
            f"{folder} was written by ltvr 0.1 and has no stages.json; restore it, or start a new "
            "run"
        )
    values = read_json(path, STARTED)
    unknown = [number for number in values["stages"] if number not in STAGES]
    if unknown or not values["stages"]:
        raise UserError(f"{path}: stages = {values['stages']}: expected 1, 2 or both; restore it")
    return [STAGES[number] for number in values["stages"]], values["command"]


def checkpoint(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """A checkpoint of today from one without a format number."""

    def renamed(weights: dict[str, Any] | None) -> dict[str, Any] | None:
        if weights is None:
            return None
        return {_renamed(name): value for name, value in weights.items()}

    check(state, {"model": {str: Tensor}}, path)
    state = {**state, "model": renamed(state["model"])}
    if "optimizer" not in state:  # weights alone
        stages, _ = started(path.parent)
        return {**state, "stage": "features" if path.stem == "stage1" else stages[-1]}
    from ltvr.settings import read_values

    check(state, CHECKPOINT, path)
    if state["stage"] not in STAGES:
        raise UserError(f"{path}: stage = {state['stage']}: expected 1 or 2; restore it")
    values = read_values(path.parent / "config.yaml")
    check(values, CONFIG, path.parent / "config.yaml")
    accumulate = max(1, values["accumulate"])
    return {
        **state,
        "average": renamed(state["average"]),
        "loss": {},
        "stage": STAGES[state["stage"]],
        "step": state["step"] // accumulate,  # it counted micro-batches
        "results": metrics(state.get("results", {})),
    }


def _renamed(name: str) -> str:
    """The name of a weight today; that of a weight average begins with ``module.``."""
    prefix = "module." if name.startswith("module.") else ""
    name = name.removeprefix(prefix)
    for old, new in PARTS.items():
        if name.startswith(old):
            return prefix + new + name.removeprefix(old)
    return prefix + name


def metrics(values: dict[str, Any]) -> dict[str, Any]:
    """Metrics by the name of the stage instead of ``stage1`` and ``stage2``."""
    names = {f"stage{number}": name for number, name in STAGES.items()}
    return {names.get(stage, stage): value for stage, value in values.items()}


def record(values: dict[str, Any]) -> dict[str, Any]:
    """The record of an epoch with the name of its stage."""
    return {**values, "stage": STAGES.get(values["stage"], values["stage"])}
