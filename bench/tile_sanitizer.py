"""Out-of-bounds accesses of the Triton kernels, found without a GPU.

    python bench/tile_sanitizer.py

Runs every kernel, forward and backward, under the symbolic sanitizer of TileLens, at shapes that do
not fit its blocks, and with every option. Prints the launches checked, and each access outside its
tensor with its kernel; exits with 1 if there is one. Needs ``pip install 'ltvr[dev]'``.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import pkgutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from tilelens import trace
from tilelens.clients.sanitizer.sanitizer import SymbolicSanitizer
from tilelens.clients.symbolic_engine import ReduceSymbolicExpr, SymbolicClient, SymbolicExpr
from tilelens.core.symbolic_metadata import INT32, SymbolicTensorValue
from triton.runtime.jit import JITFunction
from z3 import And, FreshInt

import ltvr.kernels
from ltvr import plan_synthesis
from ltvr.kernels import (
    augment,
    augment_backward,
    channel_attention,
    channel_attention_backward,
    launch,
    split_and_generate,
    split_and_generate_backward,
    tiles,
)

# [B, D, N]: channels that end inside a block, and that do not; positions of every kind of tile.
SHAPES = [
    (1, 3, 4),
    (2, 72, 4),
    (1, 33, 9),
    (1, 150, 16),
    (1, 33, 49),
    (3, 17, 49),
    (1, 20, 196),
    (1, 64, 256),
    (1, 17, 300),
]


class Sanitizer(SymbolicSanitizer):
    """TileLens' own, made to see all of a grid and all of a block.

    It runs the first program for the whole grid, and so only one side of a branch on the program;
    here every program runs. It takes two ranges of the same length for one variable, and so sees
    the diagonal of a square block; here each range is its own. And it skips launches that differ
    in the contents of their tensors only, where an index may be wrong.
    """

    def __init__(self) -> None:
        super().__init__(abort_on_error=False)
        self.launches = 0

    def grid_callback(self, grid: tuple[int, ...]) -> None:
        super().grid_callback(grid)
        self.launches += 1

    def pre_run_callback(self, fn: Any) -> bool:
        return bool(SymbolicClient.pre_run_callback(self, fn))

    def post_run_callback(self, fn: Any) -> bool:
        self.need_full_grid = True
        return bool(super().post_run_callback(fn))

    def _op_program_id_overrider(self, axis: int) -> SymbolicExpr:
        return SymbolicExpr.create("const", self.grid_idx[axis], INT32)

    def _op_make_range_overrider(self, ret_ty: Any, start: int, end: int) -> SymbolicExpr:
        made = super()._op_make_range_overrider(ret_ty, start, end)
        made.z3 = FreshInt("range")
        made.constraints = And(made.z3 >= start, made.z3 < end)
        return made


def concrete_sum(node: ReduceSymbolicExpr) -> SymbolicTensorValue:
    """The number that a sum is, which TileLens does not know: one is part of an address."""
    assert node.op == "sum"
    total = node.input.concretize().data.sum()
    return SymbolicTensorValue(np.asarray(total, np.int32), INT32)


@contextmanager
def sanitized() -> Iterator[dict[str, Sanitizer]]:
    """The kernels of ``ltvr.kernels`` under a sanitizer each, by name."""
    sanitizers = {}
    with ExitStack() as stack:
        stack.enter_context(patch.object(ReduceSymbolicExpr, "concretize", concrete_sum))
        for file in sorted(found.name for found in pkgutil.iter_modules(ltvr.kernels.__path__)):
            module = importlib.import_module(f"ltvr.kernels.{file}")
            kernels = {k: f for k, f in vars(module).items() if k.endswith("_kernel")}
            for name, kernel in kernels.items():
                assert isinstance(kernel, JITFunction), "not under TRITON_INTERPRET"
                client = sanitizers[f"{file}.{name}"] = Sanitizer()
                stack.enter_context(patch.object(module, name, trace(client)(kernel)))
        yield sanitizers


def run_channel_attention(shape: tuple[int, int, int]) -> None:
    """Forward and backward, in each dtype and precision, with keys as values and with others."""
    for dtype, own_values in itertools.product((torch.float16, torch.float32), (False, True)):
        q, k, d_out = (torch.zeros(shape, dtype=dtype) for _ in range(3))
        v = torch.zeros(shape, dtype=dtype) if own_values else None
        out, lse = channel_attention(q, k, v)
        channel_attention_backward(d_out, q, k, v, out, lse)


def run_channel_attention_in_pieces(shape: tuple[int, int, int]) -> None:
    """The same in float32 with TF32, on a Hopper."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(launch, "_capability", lambda _: 90))
        for module in (launch, tiles):
            stack.enter_context(patch.object(module, "dot_precision", lambda _: "tf32"))
        run_channel_attention(shape)


def run_split_and_generate(shape: tuple[int, int, int]) -> None:
    """Forward and backward, both masks, with and without generation, addition and X."""
    batch, channels, _ = shape
    x, x_att, v = (torch.zeros(shape) for _ in range(3))
    s = torch.zeros(batch, channels)
    for spatial, gamma in itertools.product((True, False), (0.0, 1.5)):
        plan = plan_synthesis(torch.arange(batch) % 3, gamma=gamma, seed=0, step=0)
        gathered, inverse = (plan.class_index, plan.variation_index), plan[3:]
        for addition, residual in ((True, True), (False, True), (True, False)):
            maybe_x = x if residual else None
            out = split_and_generate(maybe_x, x_att, s, v, *gathered, spatial, 1.0, addition)
            split_and_generate_backward(out, x_att, s, v, *inverse, spatial, 1.0, addition)


def run_augment(shape: tuple[int, int, int]) -> None:
    """Forward and backward, as [D, N] and as [N, D] in memory, with rows from one sample."""
    batch, channels, positions = shape
    square = torch.zeros(positions, positions)
    weights = (square, square, square, torch.zeros(3, channels), torch.zeros(channels, 3))
    named = (square, square, *weights[3:])
    for last, gamma in itertools.product((False, True), (0.0, 20.0)):
        x = torch.zeros(shape, dtype=torch.float16)
        x = torch.zeros(batch, positions, channels, dtype=x.dtype).transpose(1, 2) if last else x
        plan = plan_synthesis(torch.arange(batch) % 3, gamma=gamma, seed=0, step=0)
        flags: tuple[Any, ...] = (True, 1.0, True, True)
        gathered, inverse = (plan.class_index, plan.variation_index), plan[3:]
        features, copy, *kept = augment(x, *weights, *gathered, *flags)
        x = copy if copy.dim() == 3 else x
        arguments: tuple[Any, ...] = (features, x, *kept, *named, *inverse, *flags, last)
        augment_backward(*arguments)


def main() -> None:
    """Check all shapes."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    faults: Counter[str] = Counter()
    with sanitized() as sanitizers:
        for shape in SHAPES:
            run_channel_attention(shape)
            run_channel_attention_in_pieces(shape)
            run_split_and_generate(shape)
            run_augment(shape)
            for name, client in sanitizers.items():
                for fault in client.records:
                    where = fault.user_code_tracebacks[-1]
                    faults[
                        f"{name} {list(shape)}: {fault.op_type.__name__.lower()} outside "
                        f"{fault.tensor_name}: {where.line_of_code.strip()}"
                    ] += 1
                client.records.clear()
            print(f"{list(shape)} checked", flush=True)
    for name, client in sanitizers.items():
        print(f"{name:40} {client.launches:4} launches")
    for fault, count in faults.items():
        print(f"{fault} ({count} times)")
    unchecked = [name for name, client in sanitizers.items() if not client.launches]
    if faults or unchecked:
        sys.exit(f"out of bounds: {len(faults)}; never launched: {unchecked}")


if __name__ == "__main__":
    main()
