"""``python -m ltvr.evaluate RUN``: the test metrics of a trained model."""

from __future__ import annotations

import json
from pathlib import Path

from ltvr import errors
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.data.options import DataOptions
from ltvr.engine.evaluation import evaluate_split
from ltvr.engine.metrics import table
from ltvr.engine.trained import load_trained, trained_parser
from ltvr.errors import UserError

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    p = trained_parser("evaluate", "Evaluate a trained model.")
    p.add_argument("--split", choices=("test", "val", "train"), default="test", help="(test)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the metrics here too")
    arguments = p.parse_args()
    if arguments.json and not arguments.json.parent.is_dir():
        raise UserError(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    network, config, run, _, device = load_trained(arguments.run, arguments.device, arguments.fused)
    data = load_data(config)
    run.check_manifest(manifest(data, config))
    split = getattr(data, arguments.split)
    if split is None:
        raise UserError(
            f"{config.of(DataOptions).dataset} has no {arguments.split} split; use --split test"
        )
    metrics = evaluate_split(network, Batches(split, config, device), data.counts)
    print(table({arguments.split: metrics}))
    if arguments.json:
        arguments.json.write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    errors.run(main)
