"""How fast AFA runs: eager, compiled, through PyTorch's fused attention, and ltvr's own kernels.

    python bench/afa_throughput.py [--shape 64x1024x2x2 ...] [--dtype fp32 bf16] [--json FILE]
    python bench/afa_throughput.py --train-step      # a whole step of ResNeXt-50

Every provider is first held to the reference in float64; a wrong one is not timed. Providers are
timed in turn. A run is appended to ``bench/results/afa_throughput.jsonl`` (``train_step.jsonl``),
beside a plot. Runs on a GPU where there is one, else on the CPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from afa_providers import Provider, providers
from ltvr import SynthesisPlan, freed_memory
from ltvr.runs.environment import environment
from measure import Rates, Step, Times, interleaved, measure_rates, peak_memory, quantiles
from plans import COUNTS, batch_plan

RESULTS = Path(__file__).parent / "results"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = {
    "cpu": ["64x1024x2x2", "64x1024x4x4", "32x1024x8x8", "16x1024x14x14"],
    "cuda": ["1024x1024x2x2", "512x1024x4x4", "256x1024x8x8", "64x1024x14x14"],
}
WORKS = ("decompose", "augment")


class Problem(NamedTuple):
    """One shape and dtype: leaves (features, then weights), and a plan with G about B."""

    leaves: list[Tensor]
    plan: SynthesisPlan
    d_features: Tensor

    @classmethod
    def draw(cls, shape: list[int], dtype: torch.dtype, device: torch.device, data: str) -> Problem:
        """Features as after a ReLU, projections near the identity, labels as of ``data``."""
        g = torch.Generator().manual_seed(0)
        batch, channels, height, width = shape
        n, hidden = height * width, channels // 16
        noise = torch.randn(3, n, n, generator=g) / (10 * n**0.5)
        w_1 = torch.randn(hidden, channels, generator=g) / channels**0.5
        w_2 = torch.randn(channels, hidden, generator=g) / hidden**0.5
        x = torch.randn(batch, channels, height, width, generator=g).relu()
        leaves = [
            t.to(device, dtype).requires_grad_() for t in (x, *(torch.eye(n) + noise), w_1, w_2)
        ]
        plan = batch_plan(data, batch)
        d_features = torch.randn(batch + plan.generated, *shape[1:], generator=g)
        return cls(leaves, plan.to(device), d_features.to(device, dtype))

    def step(self, provider: Provider, work: str) -> Step:
        """Forward, and the gradients of all leaves from the same output gradient each time."""
        run: Callable[..., Tensor] = getattr(provider, work)
        plan = (self.plan,) if work == "augment" else ()
        return Step(
            lambda: run(*self.leaves, *plan),
            lambda out: torch.autograd.grad(out, self.leaves, self.d_features[: len(out)]),
        )

    def double(self) -> Problem:
        """Return the same values in float64."""
        leaves = [t.detach().double().requires_grad_() for t in self.leaves]
        return Problem(leaves, self.plan, self.d_features.double())


def results(step: Step) -> list[Tensor]:
    """The output and every gradient of a step."""
    out = step.forward()
    return [out.detach(), *step.backward(out)]  # type: ignore[misc]


def errors(step: Step, exact: list[Tensor]) -> list[float]:
    """Relative RMS of the output and of every gradient."""
    return [
        ((a.double() - e).pow(2).mean().sqrt() / e.pow(2).mean().sqrt().clamp_min(1e-30)).item()
        for a, e in zip(results(step), exact, strict=True)
    ]


def spacing(dtype: torch.dtype) -> float:
    """Distance from 1 to the next number that products tell apart; TF32 keeps 11 bits."""
    if dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32":
        return 2.0**-10
    return torch.finfo(dtype).eps


def check(
    problem: Problem, available: dict[str, Provider], work: str
) -> tuple[dict[str, Step], dict[str, float]]:
    """Split into steps worth timing, and the worst error of those that are not.

    The rule of the tests: an error at most twice the eager reference's, and a small term, which is
    that of the precision of the products.
    """
    exact = results(problem.double().step(available["eager"], work))
    steps = {name: problem.step(provider, work) for name, provider in available.items()}
    small = max(1e-5, 4 * spacing(problem.leaves[0].dtype))
    eager = errors(steps["eager"], exact)
    wrong: dict[str, float] = {}
    if not max(eager) < 1e-3 + 10 * small:
        wrong["eager"] = max(eager)
    for name in [n for n in steps if n != "eager"]:
        found = errors(steps[name], exact)
        if not all(e <= 2 * low + small for e, low in zip(found, eager, strict=True)):
            wrong[name] = max(found)
    return {name: step for name, step in steps.items() if name not in wrong}, wrong


PRODUCTS = {"forward": 2, "backward": 5}
"""Products of D x D x N in a sample; the backward makes the scores again."""


def floors(shape: list[int], rates: Rates, device: torch.device) -> dict[str, float]:
    """Least milliseconds at this machine's own rates: D x D products, one exp a score and pass.

    A CPU does one after the other; a GPU has a unit for each.
    """
    batch, channels, height, width = shape
    scores = batch * channels**2
    join = max if device.type == "cuda" else lambda a, b: a + b
    found = {
        name: 1e3
        * join(2 * products * scores * height * width / rates.matrix, scores / rates.exponentials)
        for name, products in PRODUCTS.items()
    }
    return {**found, "both": sum(found.values())}


def gflops(shape: list[int], both: float) -> float:
    """1e9 operations a second in the D x D products, of ``both`` milliseconds."""
    batch, channels, height, width = shape
    operations = 2 * sum(PRODUCTS.values()) * batch * channels**2 * height * width
    return operations / both / 1e6


def measure(
    shape: list[int], dtype: str, arguments: argparse.Namespace, rates: Rates
) -> list[dict[str, Any]]:
    """Check, time and print every provider on one shape and dtype; one row for each and work."""
    device = arguments.device
    least = floors(shape, rates, device)
    rows = []
    for work, data in itertools.product(arguments.work, arguments.plan):
        if work == "decompose" and data != arguments.plan[0]:
            continue  # it has no plan
        problem = Problem.draw(shape, DTYPES[dtype], device, data)
        torch.compiler.reset()
        available = {
            name: provider
            for name, provider in providers(device, arguments.mask_axis).items()
            if name in {"eager", *arguments.provider}
        }
        steps, wrong = check(problem, available, work)
        times = interleaved(steps, device, arguments.rounds, arguments.seconds)
        plan = f"{data}, G = {problem.plan.generated}" if work == "augment" else "no generation"
        print(f"\n{work} {shape} {dtype}, {plan}")
        print(HEADER)
        for name in available:
            row = {"work": work, "shape": shape, "dtype": dtype, "provider": name}
            row |= {"plan": data} if work == "augment" else {}
            if name in wrong:
                print(f"{name:16} WRONG, relative RMS {wrong[name]:.1e}: not timed")
                rows.append({**row, "wrong": wrong[name]})
                continue
            row |= {"peak_bytes": peak_memory(steps[name], device)}
            row |= {p: quantiles(getattr(times[name], p)) for p in ("forward", "backward", "both")}
            row |= {"rounds": len(times[name].forward)}
            row |= {"of_roofline": least["both"] / row["both"]["median"]}
            row |= {"gflops": gflops(shape, row["both"]["median"])}
            row |= {"over_fused": ratio(times, name)}
            rows.append(row)
            print(line(row), flush=True)
    return rows


def ratio(times: dict[str, Times], name: str) -> float | None:
    """Median of forward and backward over that of the fused provider."""
    if "fused" not in times:
        return None
    return quantiles(times[name].both)["median"] / quantiles(times["fused"].both)["median"]


HEADER = (
    f"{'median ms (p10-p90)':16}{'forward':>25}{'backward':>25}{'both':>25}"
    f"{'peak MB':>9}{'roofline':>9}{'GFLOP/s':>9}{'/ fused':>9}"
)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    cells = "".join(
        f"{row[p]['median']:>9.2f} {'({p10:.2f}-{p90:.2f})'.format(**row[p]):>15}"
        for p in ("forward", "backward", "both")
    )
    over = "" if row["over_fused"] is None else f"{row['over_fused']:.2f}"
    return (
        f"{row['provider']:16}{cells}{row['peak_bytes'] / 1e6:>9.1f}{row['of_roofline']:>9.0%}"
        f"{row['gflops']:>9.0f}{over:>9}"
    )


def plot(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the time of forward and backward over that of the fused provider, by shape."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = [r for r in rows if r.get("over_fused")]
    panels = sorted({(r["work"], r["dtype"]) for r in timed}, reverse=True)
    if not panels:
        return
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4), sharey=True, squeeze=False
    )
    names = list(dict.fromkeys(r["provider"] for r in timed))
    for axis, (work, dtype) in zip(axes[0], panels, strict=True):
        chosen = [r for r in timed if (r["work"], r["dtype"]) == (work, dtype)]
        shapes = list(dict.fromkeys("x".join(map(str, r["shape"])) for r in chosen))
        for i, name in enumerate(names):
            bars = [r for r in chosen if r["provider"] == name]
            at = [shapes.index("x".join(map(str, r["shape"]))) for r in bars]
            offsets = [a + (i - (len(names) - 1) / 2) * 0.8 / len(names) for a in at]
            axis.bar(offsets, [r["over_fused"] for r in bars], 0.8 / len(names), label=name)
        axis.set_xticks(range(len(shapes)), shapes, rotation=20, ha="right", fontsize=8)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log")
        axis.set_title(f"{work}, {dtype}", fontsize=10)
    axes[0][0].set_ylabel("forward + backward, time over fused")
    axes[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse() -> argparse.Namespace:
    """Read the command line; what is not given depends on the device."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("--device", type=torch.device, help="default: cuda where there is one")
    p.add_argument("--shape", nargs="+", metavar="BxDxHxW")
    p.add_argument("--dtype", nargs="+", choices=list(DTYPES), default=["fp32", "bf16"])
    p.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    p.add_argument("--provider", nargs="+", help="beside eager; default: all")
    p.add_argument("--mask-axis", choices=["spatial", "channel"], default="spatial")
    p.add_argument("--plan", nargs="+", choices=list(COUNTS), help="of batches of which data")
    p.add_argument("--rounds", type=int, help="timed runs of each; default 7, on a GPU 50")
    p.add_argument("--seconds", type=float, default=20.0, help="of a slow provider, in all")
    p.add_argument("--train-step", action="store_true", help="time a step of ResNeXt-50 instead")
    p.add_argument("--graphs", action="store_true", help="with --train-step: CUDA graphs as well")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    p.add_argument("--out", type=Path, default=RESULTS, help="folder of results and plot")
    a = p.parse_args()
    a.device = a.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = list(providers(a.device, a.mask_axis))
    a.provider = a.provider or names
    if unknown := set(a.provider) - set(names):
        p.error(f"--provider {unknown.pop()!r}: expected some of {', '.join(names)}")
    a.shape = [shape_of(text, p) for text in a.shape or SHAPES[a.device.type]]
    if a.graphs and not (a.train_step and a.device.type == "cuda"):
        p.error("--graphs is for --train-step on a GPU")
    both = ["cifar10-lt", "balanced"]  # to a CPU they are the same work
    a.plan = a.plan or (both if a.device.type == "cuda" else both[:1])
    a.rounds = a.rounds or (50 if a.device.type == "cuda" else 7)
    return a


def shape_of(text: str, parser: argparse.ArgumentParser) -> list[int]:
    """B, D, H and W of BxDxHxW; another text ends the command with an error."""
    sizes = text.split("x")
    if len(sizes) != 4 or not all(s.isdigit() and int(s) for s in sizes):
        parser.error(f"--shape {text}: expected BxDxHxW, as 64x1024x4x4")
    return [int(s) for s in sizes]


def keep(record: dict[str, Any], name: str, arguments: argparse.Namespace) -> None:
    """Append the run to the results; write it to --json too."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Run the command line; the status is 1 if a provider was wrong."""
    arguments = parse()
    device = arguments.device
    record: dict[str, Any] = {
        "command": " ".join(["python bench/afa_throughput.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "seed": 0,
        # As in training: where it is returned, what allocates more is slower.
        "freed_memory_kept": freed_memory.keep(),
        **environment(device),
    }
    print(", ".join(f"{key} {value}" for key, value in record.items()))
    if arguments.train_step:
        from train_step import measure_steps

        keep({**record, "rows": measure_steps(arguments)}, "train_step", arguments)
        return
    rows, rates = [], {}
    for dtype in arguments.dtype:
        rates[dtype] = measure_rates(device, DTYPES[dtype])
        print(
            f"\n{dtype}: at best {rates[dtype].matrix / 1e9:.0f} GFLOP/s in a matrix product, "
            f"{rates[dtype].exponentials / 1e9:.2f} G exp/s"
        )
        for shape in arguments.shape:
            rows += measure(shape, dtype, arguments, rates[dtype])
    record |= {"rates": {d: r._asdict() for d, r in rates.items()}, "rows": rows}
    keep(record, "afa_throughput", arguments)
    title = f"{record['device']}, torch {record['torch']}, {record['date']}"
    try:
        plot(rows, title, arguments.out / f"afa_throughput-{device.type}.png")
    except ModuleNotFoundError as error:
        print(f"no plot: {error}")
    if any("wrong" in row for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
