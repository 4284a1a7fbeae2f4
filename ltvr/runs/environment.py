"""What a result was measured on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ltvr import distributed
from ltvr.afa import ops
from ltvr.device import AUTOTUNE, fp32_precision

__all__ = ["environment"]


def environment(device: torch.device) -> dict[str, str | int]:
    """Device and versions, for whoever reads the result later."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((ln.split(":", 1)[1].strip() for ln in lines if "model name" in ln), name)
    return {
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "ranks": distributed.ranks(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_units": ops.bf16_units_pay(),
        "fp32_precision": fp32_precision(device),
        "triton_autotune": AUTOTUNE,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{package: _version(package) for package in ("torchvision", "triton", "numpy")},
    }


def _version(package: str) -> str:
    """Version of an installed package; benchmarks run without some of them."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
