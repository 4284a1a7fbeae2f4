"""The benchmarks measure what they say, and do not time a wrong result."""

import time

import torch

from afa_providers import Provider, providers
from afa_throughput import Problem, check
from measure import Step, Times, interleaved, peak_memory
from rank_failures import steps_lost

CPU = torch.device("cpu")


def test_every_provider_is_right_and_a_wrong_one_is_found():
    problem = Problem.draw([3, 32, 2, 2], torch.float32, CPU, "cifar10-lt")
    available = {n: p for n, p in providers(CPU, "channel").items() if "compiled" not in n}
    eager = available["eager"]
    available["wrong"] = Provider(
        lambda x, *weights: eager.decompose(x.detach() + 1e-3 * x, *weights), eager.augment
    )
    steps, wrong = check(problem, available, "decompose")
    assert list(steps) == ["eager", "sdpa", "fused"] and list(wrong) == ["wrong"]
    steps, wrong = check(problem, available, "augment")
    assert len(steps) == 4 and not wrong


def test_a_result_is_held_to_the_precision_of_its_products():
    problem = Problem.draw([3, 32, 2, 2], torch.float32, CPU, "cifar10-lt")
    eager = providers(CPU, "spatial")["eager"]

    def scaled(by):
        return Provider(lambda x, *w: eager.decompose(x, *w) * by, eager.augment)

    available = {"eager": eager, "tf32": scaled(1 + 2**-11), "wrong": scaled(1.02)}
    assert set(check(problem, available, "decompose")[1]) == {"tf32", "wrong"}
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert set(check(problem, available, "decompose")[1]) == {"wrong"}
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_peak_memory_counts_what_is_held_at_once():
    def forward():
        first = torch.ones(250_000)  # 1 MB
        second = first + 1
        del first
        return second

    step = Step(forward, lambda out: out * 2)
    assert 2_000_000 <= peak_memory(step, CPU) < 2_001_000


def test_a_slow_step_stops_early_and_the_others_go_on():
    steps = {
        "slow": Step(lambda: torch.ones(1), lambda out: time.sleep(0.2)),
        "fast": Step(lambda: torch.ones(1), lambda out: out),
    }
    times = interleaved(steps, CPU, rounds=6, seconds=0.3)
    assert len(times["slow"].both) == 2 and len(times["fast"].both) == 6
    assert Times([1.0], [2.0]).both == [3.0]


def test_steps_that_are_made_twice_are_counted(tmp_path):
    lines = [f"step features {n} 0.0" for n in (1, 2, 3, 4)]
    lines += ["from features 2 0.0", *(f"step features {n} 0.0" for n in (3, 4))]
    lines += [*(f"step crt {n} 0.0" for n in (1, 2)), "from features 4 0.0", "step crt 1 0.0"]
    (tmp_path / "positions").write_text("\n".join(lines) + "\nstep c")
    assert steps_lost(tmp_path / "positions") == [2, 2]
