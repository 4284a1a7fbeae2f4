"""Times on a GPU, the most important first: each row is written as soon as it is measured.

    python bench/gpu_rows.py FILE.jsonl [--seconds S] [--only PART ...] [--dtype DTYPE ...]
                              [--shape BxDxHxW ...] [--once]

A row is one line of JSON. What fails becomes a row with its error, and the next is measured; the
status is then 1, but for tiles that ask for more than the GPU has. After --seconds no further row
begins. --once times nothing and runs every row a single time, with small tensors unless --shape
names others: to compile what will be timed, under a profiler or compute-sanitizer, and without a
GPU under Triton's interpreter (TRITON_INTERPRET=1), to find what would fail.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
import triton.testing
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from afa_providers import providers
from afa_throughput import Problem, check, results, shape_of
from ltvr.afa import ops
from ltvr.kernels import tiles
from ltvr.kernels.channel_attention_backward_small import MOST_POSITIONS
from ltvr.runs.environment import environment
from measure import measure_rates, peak_memory

DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "tf32": torch.float32,
    "fp32": torch.float32,
    "ieee": torch.float32,
}
SHAPES = [
    [256, 1024, 8, 8],
    [1024, 1024, 2, 2],
    [32, 1024, 2, 2],
    [128, 1024, 14, 14],
    [512, 1024, 4, 4],
]
SMALL = [[3, 32, 2, 2], [1, 320, 2, 2], [2, 40, 7, 7]]
"""Of --once: the interpreter takes a millisecond a program."""


class Row(NamedTuple):
    part: str
    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]


class Clock(NamedTuple):
    """How to time a call on a GPU, in microseconds; ``once`` runs it and times nothing."""

    device: torch.device
    once: bool

    def launched(self, run: Callable[[], object]) -> dict[str, float] | None:
        """With every launch made by the host, and the second-level cache overwritten before."""
        return self._quantiles(triton.testing.do_bench, run, warmup=20, rep=100)

    def replayed(self, run: Callable[[], object]) -> dict[str, float] | None:
        """As a CUDA graph of many calls: the GPU alone, without the host."""
        return self._quantiles(triton.testing.do_bench_cudagraph, run, rep=40)

    def _quantiles(
        self, bench: Callable[..., Any], run: Callable[[], object], **options: int
    ) -> dict[str, float] | None:
        if self.once:
            run()
            return None
        found = bench(run, quantiles=[0.1, 0.5, 0.9], **options)
        return {
            name: 1e3 * value for name, value in zip(("p10", "median", "p90"), found, strict=True)
        }

    def host(self, run: Callable[[], object], calls: int = 5, times: int = 5) -> float | None:
        """Until the host has launched all of a call: the GPU is not waited for.

        The driver holds some thousand launches and then waits: so few calls at a time are fewer.
        """
        if self.once:
            return None
        spent = []
        for _ in range(times):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(calls):
                run()
            spent.append(time.perf_counter() - start)
        torch.cuda.synchronize()
        return 1e6 * statistics.median(spent) / calls

    def by_kernel(self, run: Callable[[], object], most: int = 25) -> list[list[Any]] | None:
        """Name, calls and time of the kernels of one call, the longest first."""
        if self.once:
            return None
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            run()
            torch.cuda.synchronize()
        events = sorted(profiler.key_averages(), key=lambda e: -e.self_device_time_total)
        return [[e.key[:90], e.count, round(e.self_device_time_total, 1)] for e in events[:most]]


def draw(clock: Clock, shape: list[int], dtype: str, plan: str, layout: str) -> Problem:
    """A problem whose features and their gradient lie in memory as ``layout`` says."""
    drawn = Problem.draw(shape, DTYPES[dtype], clock.device, plan)
    form = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    x = drawn.leaves[0].detach().contiguous(memory_format=form).requires_grad_()
    d_features = drawn.d_features.contiguous(memory_format=form)
    return drawn._replace(leaves=[x, *drawn.leaves[1:]], d_features=d_features)


def augment_row(
    clock: Clock, shape: list[int], dtype: str, provider: str, plan: str, layout: str
) -> dict[str, Any]:
    """One augment step: the GPU alone, with the host, the host alone, and by kernel."""
    problem = draw(clock, shape, dtype, plan, layout)
    step = problem.step(providers(clock.device, "spatial", "triton")[provider], "augment")

    def run() -> object:
        return step.backward(step.forward())

    run()
    found: dict[str, Any] = {"launched_us": clock.launched(run), "host_us": clock.host(run)}
    if not provider.startswith("compiled"):  # Inductor's own graphs may not be captured again
        found["replayed_us"] = clock.replayed(run)
    return {
        **found,
        "peak_bytes": peak_memory(step, clock.device),
        "by_kernel": clock.by_kernel(run),
    }


def attention_row(clock: Clock, shape: list[int], dtype: str, kernel: str) -> dict[str, Any]:
    """The attention alone, forward and backward: ours with K = V, and what PyTorch has."""
    q, k, d_out = attention_operands(clock, shape, dtype)
    if kernel != "ltvr":
        run, both = _torch_attention(q, k, d_out, kernel)
        return {"forward_us": clock.replayed(run), "both_us": clock.replayed(both)}
    forward, backward = _ltvr_attention(q, k, d_out, clock.device)
    return {
        "forward_us": clock.replayed(forward),
        "both_us": clock.replayed(lambda: backward(*forward())),
    }


def attention_operands(clock: Clock, shape: list[int], dtype: str) -> list[Tensor]:
    """Q with the scale in it, K and the gradient of the output, [B, D, N]."""
    batch, channels, positions = shape[0], shape[1], shape[2] * shape[3]
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, batch, channels, positions, generator=g)
    drawn[0] /= positions**0.5
    return list(drawn.to(clock.device, DTYPES[dtype]))


def _ltvr_attention(
    q: Tensor, k: Tensor, d_out: Tensor, device: torch.device
) -> tuple[Callable[[], Any], Callable[[Tensor, Tensor], Any]]:
    operators = ops.kernels("triton", device).operators

    def forward() -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = operators.channel_attention(q, k, None)
        return found

    def backward(out: Tensor, lse: Tensor) -> Any:
        return operators.channel_attention_backward(d_out, q, k, None, out, lse)

    return forward, backward


def _torch_attention(
    q: Tensor, k: Tensor, d_out: Tensor, kernel: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Padded to 8 positions at least, which PyTorch's kernels want; the scale is in Q."""
    pad = max(8, -(-q.shape[2] // 8) * 8) - q.shape[2]
    leaves = [F.pad(t, (0, pad)).unsqueeze(1).requires_grad_() for t in (q, k)]
    d_padded = F.pad(d_out, (0, pad)).unsqueeze(1)
    if kernel == "flex":
        from torch.nn.attention.flex_attention import flex_attention

        compiled = torch.compile(flex_attention, dynamic=False)

        def run() -> Tensor:
            found: Tensor = compiled(leaves[0], leaves[1], leaves[1], scale=1.0)
            return found

    else:
        backend = {
            "flash": SDPBackend.FLASH_ATTENTION,
            "cudnn": SDPBackend.CUDNN_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION,
            "math": SDPBackend.MATH,
        }[kernel]

        def run() -> Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(leaves[0], leaves[1], leaves[1], scale=1.0)

    return run, lambda: torch.autograd.grad(run(), leaves, d_padded)


def tile_row(
    clock: Clock, shape: list[int], dtype: str, kernel: str, tile: tiles.Tile
) -> dict[str, Any]:
    """One kernel of the attention with another tile: the whole forward, or the whole backward."""
    q, k, d_out = attention_operands(clock, shape, dtype)
    changed = tiles.tiles_of(q)._replace(**{kernel: tile})
    with ExitStack() as stack:
        for file in ("channel_attention", "channel_attention_backward"):
            module = importlib.import_module(f"ltvr.kernels.{file}")
            stack.enter_context(patch.object(module, "tiles_of", lambda _: changed))
        forward, backward = _ltvr_attention(q, k, d_out, clock.device)
        out, lse = forward()
        if kernel == "forward":
            return {"forward_us": clock.replayed(forward)}
        return {"backward_us": clock.replayed(lambda: backward(out, lse))}


def tiles_near(tile: tiles.Tile) -> Iterator[tiles.Tile]:
    """The tile that is taken, and those that have one of its sizes halved or doubled."""
    yield tile
    for name, least in (("block_q", 16), ("block_k", 16), ("warps", 4)):
        size = getattr(tile, name)
        for other in (size // 2, 2 * size):
            if other >= least:
                yield tile._replace(**{name: other})
    yield tile._replace(stages=5 - tile.stages)


def check_row(clock: Clock, shape: list[int], dtype: str) -> dict[str, Any]:
    """The fused step against float64, and two runs of it against each other, to the bit."""
    problem = draw(clock, shape, dtype, "cifar10-lt", "nhwc")
    ways = providers(clock.device, "spatial", "triton")
    steps, wrong = check(problem, {name: ways[name] for name in ("eager", "fused")}, "augment")
    if wrong:
        raise AssertionError(f"relative RMS of the worst gradient: {wrong}")
    first, again = results(steps["fused"]), results(steps["fused"])
    if not all(torch.equal(a, b) for a, b in zip(first, again, strict=True)):
        raise AssertionError("two steps on the same input gave different bits")
    return {"right": True, "equal_bits": True}


def rates_row(clock: Clock, dtype: str) -> dict[str, Any]:
    """What the machine does at best: a copy, a matrix product, exponentials."""
    size = 1 << (20 if clock.once else 30)
    source = torch.zeros(size, dtype=torch.int8, device=clock.device)
    target = torch.empty_like(source)
    copy = clock.replayed(lambda: target.copy_(source))
    if copy is None:
        return {}
    rates = measure_rates(clock.device, DTYPES[dtype])
    return {"copy_bytes_per_second": 2e6 * size / copy["median"], **rates._asdict()}


def swept(clock: Clock, shape: list[int], dtype: str) -> Iterator[Row]:
    """Tiles near those that are taken. Few positions have one backward, with tiles of its own."""
    positions = shape[2] * shape[3]
    x = torch.empty(1, shape[1], positions, dtype=DTYPES[dtype], device=clock.device)
    taken = tiles.tiles_of(x)
    for kernel in ("forward",) if positions <= MOST_POSITIONS else taken._fields:
        for tile in tiles_near(getattr(taken, kernel)):
            settings = {"shape": shape, "dtype": dtype, "kernel": kernel, "tile": list(tile)}
            yield Row("tile", settings, partial(tile_row, clock, shape, dtype, kernel, tile))


def rows(clock: Clock, shapes: list[list[int]]) -> Iterator[Row]:
    """All rows, the most important first."""
    yield Row("rates", {"dtype": "bf16"}, lambda: rates_row(clock, "bf16"))

    def augment(shape: list[int], dtype: str, provider: str, plan: str, layout: str) -> Row:
        settings = {
            "shape": shape, "dtype": dtype, "provider": provider, "plan": plan, "layout": layout
        }  # fmt: skip
        return Row(
            "augment", settings, lambda: augment_row(clock, shape, dtype, provider, plan, layout)
        )

    def checked(shape: list[int], dtype: str) -> Row:
        settings = {"shape": shape, "dtype": dtype}
        return Row("check", settings, lambda: check_row(clock, shape, dtype))

    def attention(shape: list[int], dtype: str, kernel: str) -> Row:
        settings = {"shape": shape, "dtype": dtype, "kernel": kernel}
        return Row("attention", settings, lambda: attention_row(clock, shape, dtype, kernel))

    on_gpu = clock.device.type == "cuda"
    half = "bf16" if on_gpu else "fp16"  # bf16 is wrong in the interpreter
    for shape in shapes:
        yield augment(shape, half, "fused", "cifar10-lt", "nhwc")
    for shape in shapes:
        yield checked(shape, half)
    for shape in shapes:
        for kernel in ("ltvr", "flash", "cudnn", "flex") if on_gpu else ("ltvr", "math"):
            yield attention(shape, half, kernel)
    for provider in ("sdpa", "eager"):
        for shape in shapes:
            yield augment(shape, half, provider, "cifar10-lt", "nhwc")
    for plan, layout in (("balanced", "nhwc"), ("imagenet-lt", "nhwc"), ("cifar10-lt", "nchw")):
        for shape in shapes:
            yield augment(shape, half, "fused", plan, layout)
    for dtype in ("tf32", "fp32", "fp16"):
        for shape in shapes:
            yield augment(shape, dtype, "fused", "cifar10-lt", "nhwc")
            yield checked(shape, dtype)
        for provider in ("eager", "sdpa") if dtype != "fp16" else ():
            for shape in shapes:
                yield augment(shape, dtype, provider, "cifar10-lt", "nhwc")
        for kernel in ("ltvr", "efficient") if on_gpu and dtype != "fp16" else ():
            for shape in shapes:
                yield attention(shape, dtype, kernel)
    if on_gpu:
        for provider in ("compiled sdpa", "compiled eager"):
            for shape in shapes[:2]:
                yield augment(shape, half, provider, "cifar10-lt", "nhwc")
    for shape in shapes:  # these take longest
        yield augment(shape, "ieee", "fused", "cifar10-lt", "nhwc")
        yield checked(shape, "ieee")
    for shape in shapes:
        yield from swept(clock, shape, half)


def measured(row: Row) -> dict[str, Any]:
    """The row's figures, or its error."""
    dtype = row.settings.get("dtype")
    torch.backends.cuda.matmul.fp32_precision = dtype if dtype in ("tf32", "ieee") else "none"
    start = time.perf_counter()
    try:
        found = row.measure()
    except Exception as error:  # the next rows are worth having
        found = {"error": f"{type(error).__name__}: {error}"[:500]}
    spent = round(time.perf_counter() - start, 1)
    return {"part": row.part, **row.settings, **found, "seconds": spent}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="rows are appended here")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no row after these")
    parser.add_argument(
        "--only", nargs="+", metavar="PART", help="rates, augment, check, attention, tile"
    )
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, help="default: all")
    parser.add_argument("--shape", nargs="+", metavar="BxDxHxW", help="default: five")
    parser.add_argument("--once", action="store_true", help="small, a single time, not timed")
    options = parser.parse_args()
    shapes = [shape_of(text, parser) for text in options.shape or ()]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.once:
        parser.error("torch sees no GPU here, and only --once runs without one")
    end = time.monotonic() + options.seconds
    failed = False
    with options.file.open("a") as file:
        head = {"part": "environment", "once": options.once, **environment(device)}
        file.write(json.dumps(head) + "\n")
        shapes = shapes or (SMALL if options.once else SHAPES)
        for row in rows(Clock(device, options.once), shapes):
            if options.only and row.part not in options.only:
                continue
            if options.dtype and row.settings["dtype"] not in options.dtype:
                continue
            if time.monotonic() > end:
                print(f"out of time before {row.part} {row.settings}")
                failed |= row.part != "tile"
                break
            found = measured(row)
            failed |= "error" in found and row.part != "tile"  # a tile may ask for too much
            file.write(json.dumps(found) + "\n")
            file.flush()
            print({k: v for k, v in found.items() if k != "by_kernel"}, flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
