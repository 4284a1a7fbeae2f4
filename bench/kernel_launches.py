"""Every Triton launch of a training step, recorded without a GPU and without running any.

The step runs on fake tensors. Triton's own launcher is replaced by one that writes down what it was
asked to launch; ``Launch.compile`` hands the same arguments back to Triton, for a GPU that need not
be there.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from gpus import GPUS
from ltvr import AFA, LTVR
from ltvr.afa import ops
from ltvr.backbones.build import build_backbone
from ltvr.kernels import launch as launching
from ltvr.kernels.launch import full_precision
from plans import batch_labels, batch_plan

__all__ = ["DTYPES", "Case", "Launch", "Setting", "Traffic", "afa_traffic", "record_step"]

DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "ieee": torch.float32,
}
"""Autocast to a half, or all in float32: products as PyTorch's default, in TF32, or IEEE's."""


class Setting(NamedTuple):
    """How a step computes."""

    dtype: str = "bf16"
    mask_axis: Any = "spatial"
    projection: Any = "linear"

    def autocast(self) -> torch.autocast:
        dtype = DTYPES[self.dtype]
        return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)


class Case(NamedTuple):
    """A training step of ResNeXt-50 with AFA after layer3 (D = 1024), half of it generated."""

    name: str
    image_size: int
    stem: Any
    batch: int

    def model(self, backend: str, setting: Setting) -> LTVR:
        return LTVR(
            build_backbone("resnext50_32x4d", self.stem),
            num_classes=10,
            image_size=self.image_size,
            mask_axis=setting.mask_axis,
            projection=setting.projection,
            backend=backend,
        )


class Launch(NamedTuple):
    kernel: JITFunction
    arguments: dict[str, Any]
    """By name, in the order of the kernel's parameters. Tensors are fake: dtype and shape."""
    options: dict[str, Any]
    """What Triton itself takes: warps, stages and the like."""
    grid: tuple[int, ...]

    @property
    def name(self) -> str:
        """File and kernel."""
        return f"{self.kernel.__module__.rpartition('.')[2]}.{self.kernel.__name__}"

    @property
    def tensors(self) -> list[Tensor]:
        """Each once, whatever parameters take it."""
        found = (a for a in self.arguments.values() if isinstance(a, Tensor))
        return list({id(a): a for a in found}.values())

    @property
    def constants(self) -> dict[str, Any]:
        """Arguments and options by name."""
        return {**self.arguments, **self.options}

    @property
    def bytes(self) -> int:
        """Each tensor once: what a cache of the size of one sample's keys leaves to memory."""
        return sum(t.numel() * t.element_size() for t in self.tensors)

    def compile(self, capability: int) -> Any:
        """Compile for a GPU of this capability, as Triton would at this launch."""
        triton.runtime.driver.set_active(_Offline(capability))
        # In order, not by name: ``warmup`` takes a dtype for a tensor only there.
        types = [a.dtype if isinstance(a, Tensor) else a for a in self.arguments.values()]
        return self.kernel.warmup(*types, grid=(1,), **self.options)


class _Offline:
    """Triton's driver of a GPU that is not there; one device index an architecture."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def _on_gpu(capability: int, precision: str) -> Iterator[None]:
    """What ``ltvr.kernels.launch`` tells the kernels of the GPU and of PyTorch's settings."""
    importlib.import_module("ltvr.kernels")
    answers = {
        "_capability": capability,
        "multiprocessors": GPUS[capability].multiprocessors,
        "dot_precision": precision,
    }
    with ExitStack() as stack:
        for module in [m for n, m in sys.modules.items() if n.startswith("ltvr.kernels.")]:
            for name in answers.keys() & vars(module).keys():
                stack.enter_context(patch.object(module, name, lambda _, a=answers[name]: a))
        yield


@contextmanager
def _recording(
    capability: int, setting: Setting, launches: list[Launch]
) -> Iterator[FakeTensorMode]:
    """Fake tensors, and launches that only go on the list."""

    def record(launch: launching.Launch, grid: tuple[int, ...], **named: Any) -> None:
        given = {**named, **launch.constants}
        arguments = {name: given.pop(name) for name in launch.kernel.arg_names}
        launches.append(Launch(launch.kernel, arguments, given, grid))

    softmax = torch.softmax
    precision = full_precision(capability) if setting.dtype == "fp32" else setting.dtype
    if DTYPES[setting.dtype] != torch.float32:
        precision = "ieee"
    with (
        patch.object(launching.Launch, "__call__", record),
        patch.object(ops, "require_triton", lambda _: None),
        _on_gpu(capability, precision),
        patch("ltvr.afa.fused._SLOW_ON_CPU", frozenset()),
        # Autograd refuses fake CUDA tensors where there is no GPU: these are fake CPU tensors. The
        # CPU's autocast leaves softmax in the half; that of CUDA, the one reported, does not.
        patch.object(torch, "softmax", lambda x, dim: softmax(x, dim, dtype=torch.float32)),
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
    ):
        yield mode


def _plan(batch: int) -> tuple[Tensor, Any]:
    """Labels of a batch of CIFAR-10-LT and their plan, G about B; both on the host."""
    return batch_labels("cifar10-lt", batch), batch_plan("cifar10-lt", batch)


def record_step(case: Case, setting: Setting, capability: int) -> list[Launch]:
    """Record the launches of one step, forward and backward."""
    _, plan = _plan(case.batch)
    launches: list[Launch] = []
    with _recording(capability, setting, launches) as mode:
        afa = case.model("triton", setting).decomposition
        assert isinstance(afa, AFA)
        fake = [mode.from_tensor(t) for t in plan]
        shape = (case.batch, afa.channels, *afa.spatial)
        x = torch.empty(
            shape, dtype=DTYPES[setting.dtype], memory_format=torch.channels_last
        ).requires_grad_()
        with setting.autocast():
            features = afa.generate(x, type(plan)(*fake))
        features.backward(torch.empty_like(features))
    return launches


class Traffic(NamedTuple):
    """What the AFA module does in one step, forward and backward."""

    launches: int
    """Kernels, PyTorch's and ours; views and allocations are none."""
    passes: int
    """Reads and writes of tensors of at least B D N elements, each once whatever its size."""
    attention_passes: int
    """Those of them by the kernels of the attention itself."""
    bytes: int


class _Count(TorchDispatchMode):
    """What every operator launches, reads and writes; views and allocations are free."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements = elements
        self.launches = self.passes = self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        aliases = [r.alias_info for r in func._schema.returns]
        free = any(a is not None and not a.is_write for a in aliases)
        if free or re.search(r"^prim::|promote_types|empty|_unsafe_view", func.name()):
            return out
        inputs = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if _counts(t)]
        outputs = [t for t in torch.utils._pytree.tree_leaves(out) if _counts(t)]
        self.launches += 1
        self.passes += sum(t.numel() >= self.elements for t in inputs + outputs)
        if "index" in func.name():  # a gather or a scatter touches the rows it names, no others
            self.bytes += 2 * min(map(_size, inputs + outputs), default=0)
            self.bytes += _size(outputs[0]) if "put" in func.name() else 0
        else:
            self.bytes += sum(map(_size, inputs + outputs))
        return out


def _counts(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _size(x: Tensor) -> int:
    """Bytes of ``x``; a broadcast one counts once."""
    held = math.prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride)
    return held * x.element_size()


def afa_traffic(
    case: Case,
    setting: Setting,
    backend: str,
    memory_format: torch.memory_format = torch.channels_last,
) -> Traffic:
    """Count what the AFA module does in one step on features of this memory format."""
    _, plan = _plan(case.batch)
    launches: list[Launch] = []
    with _recording(90, setting, launches) as mode:
        afa = case.model(backend, setting).decomposition
        assert isinstance(afa, AFA)
        fake = [mode.from_tensor(t) for t in plan]
        shape = (case.batch, afa.channels, *afa.spatial)
        x = torch.empty(shape, dtype=DTYPES[setting.dtype], memory_format=memory_format)
        x.requires_grad_()
        with _Count(x.numel()) as counted:
            with setting.autocast():
                features = afa.generate(x, type(plan)(*fake))
            features.backward(torch.empty_like(features))
    ours = [
        ("attention" in launch.kernel.__module__, t.numel() >= x.numel())
        for launch in launches
        for t in launch.tensors
    ]
    return Traffic(
        counted.launches + len(launches),
        counted.passes + sum(large for _, large in ours),
        sum(large for attention, large in ours if attention),
        counted.bytes + sum(launch.bytes for launch in launches),
    )
