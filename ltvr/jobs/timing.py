"""What a run costs on this machine, by a few of its steps."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ltvr.config.config import Config
from ltvr.data.manifest import manifest
from ltvr.data.splits import Data
from ltvr.engine.trainer import Trainer
from ltvr.errors import UserError
from ltvr.jobs.children import THREADS
from ltvr.networks.weights import without_initial_weights
from ltvr.runs.folder import Run
from ltvr.stages.features import FeaturesOptions
from ltvr.stages.options import TrainingOptions

__all__ = ["TIMED_STEPS", "timed"]

TIMED_EPOCHS = 5
"""Epochs of a stage of the shortened run. The features stage gets more where generation or a
deferred part would not begin within so few."""
TIMED_STEPS = 2
"""Of each of these epochs."""


def timed(wanted: Config, data: Data) -> dict[str, list[float]]:
    """Train a few epochs of few steps: seconds that whole epochs would take, by stage.

    The first of a stage warms up.

    Args:
        data: the images of the run.

    Raises:
        UserError: a network that cannot be built, or images that it cannot be trained on.
    """
    changes = {"features_batchnorm": "running", "select": "last", "batchnorm_images": 0}
    config = _shortened(without_initial_weights(wanted).replaced(**changes))
    threads = torch.get_num_threads()
    size = config.of(TrainingOptions).batch_size
    share = np.arange(min(len(data.test), size))
    part = replace(data, test=data.test.take(share), val=None)
    torch.set_num_threads(THREADS)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Run.create(Path(folder) / "timed", config, manifest(part, config), "timing") as run,
        ):
            trainer = Trainer(config, part, run, say=lambda line: None, steps=TIMED_STEPS)
            for stage in trainer.stages.values():
                if stage.needs_trained:
                    stage.epochs = min(stage.epochs, TIMED_EPOCHS)
            trainer.fit()
            found: dict[str, list[float]] = {name: [] for name in trainer.stages}
            for r in run.records():
                images = len(data.train) // size * size
                tested = r["eval_seconds"] * len(data.val or data.test) / len(share)
                found[r["stage"]].append(images / r["images_per_second"] + tested)
            return found
    finally:
        torch.set_num_threads(threads)


def _shortened(config: Config) -> Config:
    """The same with few epochs of the features, in which all that it has begins."""
    epochs, fewer = config.of(FeaturesOptions).epochs, TIMED_EPOCHS
    while fewer < epochs:
        try:
            return config.replaced(epochs=fewer)
        except UserError:
            fewer *= 2
    return config
