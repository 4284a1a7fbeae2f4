"""``python -m ltvr.predict RUN IMAGE...``: the likeliest classes of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ltvr import errors
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.images import Decoder
from ltvr.data.options import DataOptions
from ltvr.data.splits import Split, load_picture
from ltvr.engine.trained import load_trained, trained_parser

__all__ = ["main"]


@torch.no_grad()
def main() -> None:
    """Run the command line."""
    p = trained_parser("predict", "Classify images with a trained model.")
    p.add_argument("images", type=Path, nargs="+", help="image files of any type Pillow reads")
    p.add_argument("--top", type=int, default=3, metavar="K", help="classes to show (3)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto)")
    arguments = p.parse_args()
    network, config, run, classes, device = load_trained(
        arguments.run, arguments.device, arguments.fused
    )
    zeros, options = np.zeros(len(arguments.images), np.int64), config.of(DataOptions)
    decoder = Decoder(options.colour, run.ranges())
    pictures = [load_picture(path, decoder, options) for path in arguments.images]
    split = Split(torch.stack(pictures), zeros, zeros)
    batches = Batches(split, config, device)
    paths = iter(arguments.images)
    for images, _ in batches.evaluate(config.of(RunOptions).eval_batch_size):
        top = network(images).float().softmax(1).topk(min(arguments.top, len(classes)))
        for values, indices in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            shown = (f"{classes[k]} {v:.1%}" for v, k in zip(values, indices, strict=True))
            print(f"{next(paths)}: {', '.join(shown)}")


if __name__ == "__main__":
    errors.run(main)
