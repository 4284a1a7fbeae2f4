"""Training on several ranks: is it the run of one, whatever happens to them, and how fast?

    python bench/ranks.py [--only agreement order kills nodes ...] [--json FILE]

``agreement``   losses, metrics, order and plans of digits on 1, 2 and 4 ranks
``order``       class-aware batches of ImageNet-LT's labels on 1 to 8 ranks, and their classes
``evaluation``  confusion matrices on 1 to 4 ranks
``kills``       a rank of two is killed at random moments; ``torchrun`` starts them again
``nodes``       the same with two agents, of which one is lost, too
``stops``       SIGTERM to the agent, and ``--resume``
``failures``    a configuration that ranks refuse; an image that one of them cannot read
``speed``       images a second of two ranks against one; what agreeing costs
``model``       8 GPUs on paper: a model, nothing of it is measured

All ranks are processes of a CPU that talk by gloo. FILE keeps the parts that are not run again.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import rank_agreement
import rank_failures
import rank_speed
from ltvr.runs.environment import environment

Part = Callable[[Path, int], dict[str, Any]]


def kills(out: Path, seed: int) -> dict[str, Any]:
    """Ten kills of a rank."""
    whole = rank_failures.left_alone(out / "whole")
    return rank_failures.kills(out, whole, 10, random.Random(seed))


def nodes(out: Path, seed: int) -> dict[str, Any]:
    """Eight kills of a rank, two of an agent."""
    whole = rank_failures.left_alone(out / "whole")
    return rank_failures.nodes(out, whole, 8, random.Random(seed))


def stops(out: Path, seed: int) -> dict[str, Any]:
    """A stop from outside."""
    whole = rank_failures.left_alone(out / "whole")
    return rank_failures.stopped(out, whole, random.Random(seed))


def failures(out: Path, seed: int) -> dict[str, Any]:
    """A rank that fails by itself."""
    return rank_failures.message_first(out)


PARTS: dict[str, Part] = {
    "agreement": rank_agreement.agreement,
    "order": rank_agreement.order,
    "evaluation": rank_agreement.evaluation,
    "kills": kills,
    "nodes": nodes,
    "stops": stops,
    "failures": failures,
    "speed": rank_speed.speed,
    "model": rank_speed.model,
}


def main() -> None:
    """Run the command line."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (all)")
    p.add_argument("--seed", type=int, default=0, help="of what is drawn: moments, ranks (0)")
    p.add_argument("--json", type=Path, metavar="FILE", help="keep the result here")
    p.add_argument("--scratch", type=Path, metavar="FOLDER", help="for runs (a temporary one)")
    given = p.parse_args()
    torch.set_num_threads(1)  # a rank each core; threads do not outlive a fork either
    result: dict[str, Any] = {}
    for name in given.only:
        print(f"== {name}, seed {given.seed}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
            text = json.dumps(PARTS[name](Path(folder), given.seed))
            found = json.loads(text.replace(folder, "FOLDER"))
        about = {
            "command": f"python bench/ranks.py --only {name} --seed {given.seed}",
            "date": time.strftime("%Y-%m-%d"),
            "seed": given.seed,
            "seconds": round(time.monotonic() - began, 1),
        }
        result[name] = about | found
        if given.json is not None:
            before = json.loads(given.json.read_text()) if given.json.is_file() else {}
            kept = {**before, "environment": environment(torch.device("cpu")), name: result[name]}
            given.json.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
