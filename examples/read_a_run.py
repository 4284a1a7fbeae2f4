"""Read what a run left: its settings, its curves, and its accuracy by class.

python examples/read_a_run.py runs/NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.errors import UserError
from ltvr.runs.folder import Run


def main(folder: Path) -> list[tuple[str, int, float | None]]:
    """Print a run; return name, training images and accuracy of each class, rarest first."""
    run = Run.open(folder)
    config, summary, manifest = run.config(), run.read_summary(), run.manifest()
    print(f"{config.of(RunOptions).method} on {config.of(DataOptions).dataset}, {run.command()}")
    for record in run.records():
        evaluated = record["eval"]  # None where --evaluate-every passes an epoch over
        shown = "" if evaluated is None else f"  {evaluated['all']:.1f} %"
        loss = record["real_loss"]
        print(f"{record['stage']:>10} epoch {record['epoch']:>3}  loss {loss:.3f}{shown}")

    last = list(summary["metrics"].values())[-1]
    classes = sorted(
        zip(manifest["classes"], manifest["train_counts"], last["per_class"], strict=True),
        key=lambda each: each[1],
    )
    print("\nclasses, rarest first")
    for name, images, accuracy in classes:
        shown = "n/a" if accuracy is None else f"{accuracy:.1f} %"
        print(f"{name:>20} {images:>6} training images  {shown}")
    return classes


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
