"""``python -m ltvr.evaluate RUN``: the test metrics of a trained model."""

from __future__ import annotations

import json
from pathlib import Path

from ltvr import errors
from ltvr.build import autocast
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.data.manifest import manifest
from ltvr.errors import UserError
from ltvr.metrics import evaluate, table
from ltvr.trained import load_trained, trained_parser

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
    model, config, run, _ = load_trained(arguments.run, arguments.device, arguments.fused)
    data = load_data(config)
    run.check_manifest(manifest(data, config))
    split = getattr(data, arguments.split)
    if split is None:
        raise UserError(f"{config.dataset} has no {arguments.split} split; use --split test")
    device = next(model.parameters()).device
    with autocast(config, device):
        metrics = evaluate(
            model,
            Batches(split, config, device).evaluate(config.eval_batch_size),
            data.counts,
            many_above=config.many_above,
            few_below=config.few_below,
        )
    print(table({arguments.split: metrics}))
    if arguments.json:
        arguments.json.write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    errors.run(main)
