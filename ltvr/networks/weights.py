"""Weights that a backbone starts from: what is in a file, and what of it fits."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltvr.backbones.base import Parts
from ltvr.backbones.options import BackboneOptions
from ltvr.config.config import Config
from ltvr.errors import UserError

__all__ = ["digest", "load_backbone", "weights_record", "without_initial_weights"]

CONTAINERS = ("state_dict", "model", "model_state", "model_state_dict")
"""What the weights are called in a checkpoint that holds more than them."""
HALVES = ("extractor.", "embedder.", "head.")
"""Of a backbone in a checkpoint of ltvr; the last is how 0.1 called the second."""


def without_initial_weights(config: Config) -> Config:
    """``config`` for a network whose weights come from a checkpoint, whatever it began with."""
    return config.replaced(pretrained=False, weights="")


def weights_record(config: Config) -> dict[str, dict[str, str]]:
    """What the manifest says of the file that the backbone starts from; nothing without one.

    Raises:
        UserError: the file cannot be read.
    """
    path = config.of(BackboneOptions).weights
    return {"weights": {"file": path, "sha256": digest(Path(path))}} if path else {}


def load_backbone(parts: Parts, name: str, path: Path) -> str:
    """Load the weights of a backbone, and of nothing else, from a file.

    The file is a state dict of torchvision or timm, a checkpoint of a training script that holds
    one, a ``.pt`` of a run folder, or safetensors. Prefixes of wrappers (``module.``) are taken
    off. What belongs to a classifier or a decomposition is left out, whatever its shape.

    Args:
        name: of the backbone, for messages.

    Returns:
        What was loaded, and what was left out and why, on one line.

    Raises:
        UserError: a file that cannot be read, or weights of another backbone.
    """
    own = {
        f"{part}.{key}": value
        for part, module in parts.modules.items()
        for key, value in module.state_dict().items()
    }
    found = _names_of_backbone(_read(path), own)
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in found]
    fitting = sum(key in found and found[key].shape == own[key].shape for key in needed)
    if 2 * fitting < len(needed):
        first = missing[0] if missing else next(k for k in needed if found[k].shape != own[k].shape)
        raise UserError(
            f"weights {path}: {fitting} of the {len(needed)} tensors of {name} are there in their "
            f"shape, and {first} is not; name the backbone that they are of"
        )
    for key, value in own.items():
        if key in found and found[key].shape != value.shape:
            hint = f"name the backbone that they are of instead of {name}"
            if key == "conv1.weight":
                small = found[key].shape[-1] == 3
                hint = f"say --stem {'cifar or stride2' if small else 'imagenet'}"
            raise UserError(
                f"weights {path}: {key} is {list(found[key].shape)} there and "
                f"{list(value.shape)} in {name}; {hint}"
            )
    if missing:
        raise UserError(
            f"weights {path}: {len(needed) - len(missing)} of the {len(needed)} tensors of {name} "
            f"are there, and {missing[0]} is not; name the backbone that they are of"
        )
    left = [key for key in found if key not in own]
    deeper = [key for key in left if key.startswith(tuple(f"{s}." for s in parts.stages))]
    if deeper:
        raise UserError(
            f"weights {path}: {deeper[0]} is there, and {name} has no such tensor; name the "
            "backbone that they are of"
        )
    loaded = {key: value for key, value in found.items() if key in own}
    with torch.no_grad():
        for key, value in loaded.items():
            own[key].copy_(value)
    rest = (
        f"left out {len(left)} that are not the backbone's ({', '.join(left[:3])}" if left else ""
    )
    rest += ", ...)" if len(left) > 3 else ")" if left else "left out none"
    return (
        f"weights {path}: loaded {len(loaded)} tensors into {name}, {rest}; the classifier starts "
        f"anew (sha256 {digest(path)[:12]})"
    )


def digest(path: Path) -> str:
    """The sha256 of a file of weights.

    Raises:
        UserError: it cannot be read.
    """
    try:
        found = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
        return found.hexdigest()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, as they are called there."""
    if path.is_dir():
        raise UserError(f"weights {path}: that is a folder; name a file in it, final.pt of a run")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            _check_kind(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError:
        raise UserError(f"weights {path} needs safetensors: pip install safetensors") from None
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise UserError(
                f"weights {path}: it holds a whole model or other objects, not weights alone; save "
                "model.state_dict()"
            ) from None
        raise _unreadable(path, error) from None
    while isinstance(state, dict):
        inner = next((k for k in CONTAINERS if isinstance(state.get(k), dict)), None)
        if inner is None:
            break
        state = state[inner]
    named = state.items() if isinstance(state, dict) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(
            f"weights {path}: expected names and tensors (a state dict), or a checkpoint with one "
            f"under {', '.join(CONTAINERS)}"
        )
    return tensors


def _check_kind(path: Path) -> None:
    """Refuse what torch.save did not write, now or of old, by its first bytes."""
    with path.open("rb") as file:
        begins = file.read(2)
    if begins != b"PK" and begins[:1] != b"\x80":  # an archive, or the pickles of old
        kind = "it is empty" if not begins else "it is no file of torch.save"
        raise _unreadable(path, ValueError(kind))


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError):
        return UserError(f"weights {path}: {error.strerror}; name a file of weights")
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return UserError(
        f"weights {path} cannot be read ({reason}); save a state dict with torch.save, or "
        "safetensors"
    )


def _names_of_backbone(state: dict[str, Tensor], own: dict[str, Any]) -> dict[str, Tensor]:
    """``state`` by the names of the backbone, without the prefixes of what it was a part of."""
    state = {key: value for key, value in state.items() if key != "n_averaged"}
    while True:
        first = {key.partition(".")[0] + "." for key in state}
        if len(first) != 1 or any(key.startswith(tuple(first)) for key in own):
            break
        prefix = first.pop()
        if not all(key.startswith(prefix) for key in state):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not any(key.startswith("extractor.") for key in state):
        return state
    renamed = {}
    for key, value in state.items():
        half = next((h for h in HALVES if key.startswith(h)), "")
        renamed[key.removeprefix(half)] = value
    return renamed
