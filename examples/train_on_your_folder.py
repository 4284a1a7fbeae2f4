"""Train on a folder of your own images, compare AFA with the plain backbone, and classify an image.

    python examples/train_on_your_folder.py FOLDER [OUT]

FOLDER has ``train/<class>/<image>`` and ``test/<class>/<image>``. The two runs go to OUT, which is
``runs/`` and the name of FOLDER where it is not given, and holds no others yet. The settings below
suit small pictures on a CPU, for larger ones raise ``image_size`` and the epochs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ltvr.config.config import Config
from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.settings import load_config
from ltvr.training import train


def configuration(root: Path, method: str, epochs: int) -> Config:
    """A small network on 32-pixel images; every option that is not named has its default."""
    return load_config(
        "cifar10-ir100-cpu",
        method,
        {
            "dataset": "folder",
            "root": str(root),
            "imbalance": 1.0,  # keep all images: these are long-tailed as they are
            "epochs": epochs,
            "crt_epochs": max(1, epochs // 8),
            "batch_size": 16,
            "fused": True,
        },
    )


def main(root: Path, out: Path, epochs: int = 90) -> dict[str, float]:
    """Train both methods; return the accuracy of each on the test images, in percent."""
    accuracy = {}
    for method in ("baseline", "ltvr"):
        summary = train(configuration(root, method, epochs), out / method)
        accuracy[method] = summary["metrics"]["crt"]["all"]
    print({method: f"{value:.1f} %" for method, value in accuracy.items()})

    network, config, _, classes, device = load_trained(out / "ltvr")
    test = load_data(config).test
    images, labels = next(Batches(test, config, device).evaluate(1))
    with torch.no_grad():
        predicted = network(images).argmax(1)
    print(f"a test image of {classes[labels[0]]} is taken for {classes[predicted[0]]}")
    return accuracy


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    try:
        main(folder, Path(sys.argv[2]) if sys.argv[2:] else Path("runs") / folder.resolve().name)
    except UserError as error:
        sys.exit(f"error: {error}")
