"""The heads on a run's finished first stage, as a job: ``python -m ltvr.heads RUN``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltvr.engine.trained import trained_features
from ltvr.errors import UserError
from ltvr.jobs.children import Found
from ltvr.jobs.training import Training
from ltvr.networks.weights import digest
from ltvr.posthoc.catalogue import names
from ltvr.runs.folder import Run
from ltvr.runs.forms import Form, read_json

__all__ = ["Heads"]

HEADS: Form = {
    "weights": str,
    "sha256": str,
    "options": dict,
    "heads": [{"head": str, "reason": (str, None), "chosen": (dict, None)}],
}


@dataclass(frozen=True)
class Heads:
    """All heads of one run; they are in its folder, in ``heads.json``."""

    run: Training

    @property
    def name(self) -> str:
        """Of its log."""
        return f"{self.run.name}-heads"

    @property
    def log(self) -> Path:
        """What its process says."""
        return self.run.out / f"{self.name}.log"

    @property
    def needs(self) -> Training:
        """The run."""
        return self.run

    @property
    def _file(self) -> Path:
        return self.run.folder / "heads.json"

    def look(self) -> Found:
        """Does the file have every head, of the features that the run ended with, as they come?

        One that has not is made again, of the results that are kept beside it as far as they fit.
        Which features it is of cannot be told once their file is gone: it stands then. That of
        another run than the wanted one is none.
        """
        if (run := self.run.look()).state == "in the way":
            return run
        try:
            found, weights = (
                read_json(self._file, HEADS),
                trained_features(Run.open(self.run.folder)),
            )
            done = (
                {each["head"] for each in found["heads"]} >= {*names()}
                and found["weights"] == weights.name
                and not found["options"]
                and (not weights.is_file() or found["sha256"] == digest(weights))
            )
        except (UserError, OSError):
            return Found("missing")
        return Found("done" if done else "missing")

    def command(self, found: Found) -> list[str]:
        """The arguments of Python that make it; it goes on by itself."""
        return ["-m", "ltvr.heads", str(self.run.folder), *self.run.places()]

    def metrics(self, head: str) -> dict[str, Any]:
        """What a head has on the test images, its hyper-parameter chosen without them.

        Raises:
            UserError: the file is not there or of another form, or has no such head.
        """
        for each in read_json(self._file, HEADS)["heads"]:
            if each["head"] == head and each["chosen"] is not None:
                metrics: dict[str, Any] = each["chosen"]["metrics"]
                return metrics
            if each["head"] == head:
                raise UserError(f"{self._file}: {head} is n/a, {each['reason']}")
        raise UserError(f"{self._file} has no head {head!r}; run python -m ltvr.heads again")
