"""Runs whose numbers stand beside each other have read the same images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ltvr.data.options import DataOptions
from ltvr.errors import UserError
from ltvr.jobs.training import Training
from ltvr.runs.folder import Run

__all__ = ["SameImages"]

DECIDE = (
    "dataset",
    "imbalance",
    "imbalance_type",
    "data_seed",
    "holdout",
    "holdout_from",
    "holdout_fold",
    "image_size",
    "resize",
    "background",
    "bad_images",
)
"""Options that decide which images a run reads of a place, or the digest of small ones."""


@dataclass
class SameImages:
    """Holds finished runs to the images of the first one that says it reads the same."""

    _first: dict[str, Training] = field(default_factory=dict)

    def hold(self, training: Training) -> None:
        """Compare a finished run with the first of the same data options.

        Raises:
            UserError: other classes or images, as of a folder that was changed in between.
        """
        options = training.config.of(DataOptions)
        said: dict[str, Any] = {name: getattr(options, name) for name in DECIDE}
        first = self._first.setdefault(str(said), training)
        run, other = Run(training.folder), Run(first.folder)
        same = {name: run.same_images(other, name) for name in ("train", options.judged_on)}
        differ = [f"{name} images" for name, alike in same.items() if not alike]
        if run.manifest()["classes"] != other.manifest()["classes"]:
            differ.insert(0, "classes")
        if differ:
            raise UserError(
                f"{run.folder} has other {' and '.join(differ)} than {other.folder} (sha256): they "
                "were changed in between; restore them and delete the run, or name another --out"
            )
