"""Accuracy after the features stage of finished runs, by the statistics BatchNorm ends with.

    python bench/batchnorm_statistics.py RUN...

The running ones are of the training batches, generated samples and all; the real ones are
``--features-batchnorm real``, measured here on the weights that the stage left in each RUN, which
was trained with ``running``. All RUNs are of the same data, read once.
Results: ``bench/results/batchnorm_statistics.jsonl``, a line a run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.splits import Data
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.trained import load_trained
from ltvr.networks.batchnorm import measure_real_statistics
from ltvr.runs.environment import environment
from ltvr.runs.folder import Run
from ltvr.stages.features import FeaturesOptions

RESULTS = Path(__file__).parent / "results" / "batchnorm_statistics.jsonl"


def main() -> None:
    """Run the command line."""
    p = argparse.ArgumentParser(description="Stage-1 accuracy by BatchNorm statistics.")
    p.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    data: Data | None = None
    for folder in p.parse_args().runs:
        network, config, run, _, device = load_trained(Run.open(folder).weights("features"))
        if config.of(FeaturesOptions).features_batchnorm != "running":
            p.error(f"{folder}: trained with features_batchnorm real; give a run with running")
        data, options = data or load_data(config), config.of(RunOptions)
        run.check_manifest(manifest(data, config))
        record = {"run": folder.name, "method": options.method, "seed": options.seed}
        for statistics in ("running", "real"):
            if statistics == "real":
                measure_real_statistics(network, Batches(data.train, config, device), config)
            metrics = evaluate_split(network, Batches(data.test, config, device), data.counts)
            record[statistics] = {name: metrics[name] for name in ("all", "many", "medium", "few")}
            shown = {k: None if v is None else round(v, 2) for k, v in record[statistics].items()}
            print(folder.name, statistics, shown, flush=True)
        record |= {"date": time.strftime("%Y-%m-%d"), "command": "bench/batchnorm_statistics.py"}
        with RESULTS.open("a") as file:
            file.write(json.dumps({**record, "environment": environment(device)}) + "\n")


if __name__ == "__main__":
    main()
