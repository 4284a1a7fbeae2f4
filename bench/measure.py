"""Time, peak memory, and what the machine can do at most."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

__all__ = ["Rates", "Step", "Times", "interleaved", "measure_rates", "peak_memory", "quantiles"]

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler counts memory here, quietly

Forward = Callable[[], Tensor]
Backward = Callable[[Tensor], object]


class Step(NamedTuple):
    """A forward, and a backward that takes its result."""

    forward: Forward
    backward: Backward


class Times(NamedTuple):
    """Milliseconds of every round."""

    forward: list[float]
    backward: list[float]

    @property
    def both(self) -> list[float]:
        return [f + b for f, b in zip(self.forward, self.backward, strict=True)]


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, and the first and ninth tenth."""
    if len(values) == 1:
        return dict.fromkeys(("p10", "median", "p90"), values[0])
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {"p10": tenths[0], "median": statistics.median(values), "p90": tenths[-1]}


def interleaved(
    steps: Mapping[str, Step], device: torch.device, rounds: int, seconds: float
) -> dict[str, Times]:
    """Time the steps in turn, so that what disturbs the machine disturbs all alike.

    Args:
        steps: each of which has run before: nothing here is a warm-up.
        rounds: of every step.
        seconds: a step that has taken this long in all has had rounds enough, if it had two.
    """
    clock = _CudaClock(device) if device.type == "cuda" else _Clock()
    times = {name: Times([], []) for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            done = times[name]
            if len(done.forward) >= 2 and sum(done.both) > 1e3 * seconds:
                continue
            forward, backward = clock.time(step)
            done.forward.append(forward)
            done.backward.append(backward)
    return times


class _Clock:
    """Wall clock of a CPU."""

    def time(self, step: Step) -> tuple[float, float]:
        start = time.perf_counter()
        out = step.forward()
        middle = time.perf_counter()
        step.backward(out)
        end = time.perf_counter()
        return 1e3 * (middle - start), 1e3 * (end - middle)


class _CudaClock:
    """Events on the stream; the second-level cache is overwritten before each step."""

    def __init__(self, device: torch.device) -> None:
        self.cache = torch.empty(256 << 20, dtype=torch.int8, device=device)

    def time(self, step: Step) -> tuple[float, float]:
        start, middle, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self.cache.zero_()
        torch.cuda.synchronize()
        start.record()
        out = step.forward()
        middle.record()
        step.backward(out)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(middle), middle.elapsed_time(end)


def peak_memory(step: Step, device: torch.device) -> int:
    """Most bytes that a step holds beyond what there was before it, its gradients included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step.backward(step.forward())
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step.backward(step.forward())
    held = most = 0
    for event in _memory_events(profiler):
        held += event.nbytes()
        most = max(most, held)
    return most


def _memory_events(profiler: Any) -> list[Any]:
    """Every allocation (bytes above 0) and release of the CPU's allocator, in order."""
    events = profiler.profiler.kineto_results.events()
    return sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())


class Rates(NamedTuple):
    """What this machine did at best, a second: operations of a matrix product, exponentials."""

    matrix: float
    exponentials: float


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Measure the best rates of ``torch.mm`` and of exponentials that stay in the cache.

    A CPU without matrix instructions for ``dtype`` computes in float32 at the rate of float32.
    """
    dtypes = {dtype, torch.float32} if device.type == "cpu" else {dtype}
    matrix = max(_matrix_rate(device, d) for d in dtypes)
    exponentials = _cuda_exp_rate(device) if device.type == "cuda" else _cpu_exp_rate()
    return Rates(matrix, exponentials)


def _best_seconds(run: Callable[[], object], device: torch.device, calls: int = 7) -> float:
    clock = _CudaClock(device) if device.type == "cuda" else _Clock()
    step = Step(lambda: run(), lambda _: None)  # type: ignore[arg-type,return-value]
    return min(clock.time(step)[0] for _ in range(calls)) / 1e3


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    return 2 * size**3 / _best_seconds(lambda: torch.mm(a, b), device)


def _cpu_exp_rate() -> float:
    x = -torch.rand(1 << 17)  # half a megabyte a core at most: the second-level cache
    out = torch.empty_like(x)

    def run() -> None:
        for _ in range(100):
            torch.exp(x, out=out)

    return 100 * x.numel() / _best_seconds(run, torch.device("cpu"))


def _cuda_exp_rate(device: torch.device) -> float:
    from exp_rate import exp_rate_kernel

    programs, size, repeats = 4096, 1024, 256
    out = torch.empty(programs * size, device=device)
    run = lambda: exp_rate_kernel[(programs,)](out, size, repeats, num_warps=4)  # noqa: E731
    run()
    return programs * size * repeats / _best_seconds(run, device)
