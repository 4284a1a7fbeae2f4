"""The operators of ``torch.ops.ltvr``: schemas, fake implementations, and the compiled extension.

The only file that touches ``torch.library``. CPU implementations are C++ (``csrc/``), registered
when the compiled extension is loaded here. Without it ``import ltvr`` still works, and the first
call of an operator that needs it says what is missing and how to get it.
"""

from __future__ import annotations

import re
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

__all__ = ["extension_available", "plan_synthesis", "require_extension"]

BUILD_COMMAND = "pip install --no-build-isolation -e ."

# ---- Schemas -----------------------------------------------------------------------------------

SCHEMAS = {
    "plan_synthesis": (
        "(Tensor labels, float gamma, float alpha, int seed, int step) -> ("
        "Tensor class_index, Tensor variation_index, Tensor generated_labels, "
        "Tensor class_offsets, Tensor class_rows, "
        "Tensor variation_offsets, Tensor variation_rows)"
    ),
}

for _name, _schema in SCHEMAS.items():
    torch.library.define(f"ltvr::{_name}", _schema)


# ---- The compiled extension --------------------------------------------------------------------


def _load_extension(folder: Path) -> str | None:
    """Load ``_C*.so`` from ``folder``; return None, or the reason why there is no extension."""
    paths = [folder / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return (
            f"the C++ extension of ltvr is not built (no {paths[0].name} in {folder}). "
            "Most likely there was no C++ compiler when ltvr was installed. "
            f"Install g++, then run `{BUILD_COMMAND}` in the repository."
        )
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        built = re.search(rb"ltvr built for torch ([^\0]+)", path.read_bytes())
        built_for = f"torch {built[1].decode()}" if built else "an unknown torch"
        return (
            f"the C++ extension of ltvr does not load: {path} was built for {built_for}, and this "
            f"is torch {torch.__version__} ({error}). "
            f"Run `{BUILD_COMMAND}` in the repository to build it again."
        )
    return None


_why_missing = _load_extension(Path(__file__).parent)


def extension_available() -> bool:
    """Whether the C++ extension is loaded."""
    return _why_missing is None


def require_extension() -> None:
    """Raise a RuntimeError that says what to do if the C++ extension is not loaded."""
    if _why_missing is not None:
        raise RuntimeError(_why_missing)


def _raise_missing(*_: object) -> NoReturn:
    require_extension()
    raise AssertionError("unreachable: registered only where the extension is missing")


if not extension_available():
    for _name in SCHEMAS:
        torch.library.impl(f"ltvr::{_name}", "cpu", _raise_missing)


# ---- plan_synthesis ----------------------------------------------------------------------------


@torch.library.register_fake("ltvr::plan_synthesis")
def _plan_synthesis_fake(
    labels: Tensor, gamma: float, alpha: float, seed: int, step: int
) -> tuple[Tensor, ...]:
    batch = labels.shape[0]
    generated = torch.library.get_ctx().new_dynamic_size()
    sizes = (generated, generated, generated, batch + 1, generated, batch + 1, generated)
    return tuple(labels.new_empty(size) for size in sizes)


def plan_synthesis(
    labels: Tensor, gamma: float, alpha: float, seed: int, step: int
) -> tuple[Tensor, ...]:
    """Call the operator; ``ltvr.planning.plan_synthesis`` is the documented entry."""
    return torch.ops.ltvr.plan_synthesis.default(labels, gamma, alpha, seed, step)
