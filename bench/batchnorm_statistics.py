"""Accuracy after stage 1 of finished runs, by the statistics BatchNorm ends with.

    python bench/batchnorm_statistics.py RUN...

The running ones are of the training batches, generated samples and all; the real ones are
``--stage1-batchnorm real``, measured here on the weights of ``stage1.pt`` of each RUN, which was
trained with ``running``. All RUNs are of the same data, read once.
Results: ``bench/results/batchnorm_statistics.jsonl``, a line a run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from ltvr.batchnorm import measure_real_statistics
from ltvr.build import autocast
from ltvr.data.batches import Batches
from ltvr.data.datasets import Data, load_data
from ltvr.data.manifest import manifest
from ltvr.environment import environment
from ltvr.metrics import evaluate
from ltvr.trained import load_trained

RESULTS = Path(__file__).parent / "results" / "batchnorm_statistics.jsonl"


def main() -> None:
    """Run the command line."""
    p = argparse.ArgumentParser(description="Stage-1 accuracy by BatchNorm statistics.")
    p.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    data: Data | None = None
    for folder in p.parse_args().runs:
        model, config, run, _ = load_trained(folder / "stage1.pt")
        if config.stage1_batchnorm != "running":
            p.error(f"{folder}: trained with stage1_batchnorm real; give a run with running")
        data, device = data or load_data(config), next(model.parameters()).device
        run.check_manifest(manifest(data, config))
        record = {"run": folder.name, "method": config.method, "seed": config.seed}
        for statistics in ("running", "real"):
            if statistics == "real":
                measure_real_statistics(model, Batches(data.train, config, device), config)
            with autocast(config, device):
                test = Batches(data.test, config, device).evaluate(config.eval_batch_size)
                metrics = evaluate(
                    model,
                    test,
                    data.counts,
                    many_above=config.many_above,
                    few_below=config.few_below,
                )
            record[statistics] = {name: metrics[name] for name in ("all", "many", "medium", "few")}
            shown = {k: None if v is None else round(v, 2) for k, v in record[statistics].items()}
            print(folder.name, statistics, shown, flush=True)
        record |= {"date": time.strftime("%Y-%m-%d"), "command": "bench/batchnorm_statistics.py"}
        with RESULTS.open("a") as file:
            file.write(json.dumps({**record, "environment": environment(device)}) + "\n")


if __name__ == "__main__":
    main()
