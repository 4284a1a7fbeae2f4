"""A run's folder: its configuration, manifest, records, checkpoints and summary."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ltvr.config.config import Config
from ltvr.errors import UserError
from ltvr.runs import legacy
from ltvr.settings import SCHEMA, read_values, save_config

__all__ = ["Run"]


class Run:
    """The files of one run.

    =====================  =========================================================================
    ``config.yaml``        everything that decides the result
    ``manifest.json``      which images, with sha256
    ``command.txt``        the command that began it, and those that resumed it, a line each
    ``metrics.jsonl``      a record an epoch
    ``last.pt``            everything needed to go on
    ``best.pt``            the same of the best epoch of the stage, with the evaluated weights
    ``STAGE.pt``           the reported weights of each stage
    ``final.pt``           the reported weights of the last stage
    ``summary.json``       the reported numbers
    ``report.html``        the page for a person; ``tensorboard/`` has the curves
    =====================  =========================================================================
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.pt"
        self.best = folder / "best.pt"
        self.final = folder / "final.pt"
        self.summary = folder / "summary.json"
        self.report = folder / "report.html"
        self._config = folder / "config.yaml"
        self._command = folder / "command.txt"
        self._metrics = folder / "metrics.jsonl"

    def weights(self, stage: str) -> Path:
        """The file of the reported weights of a stage."""
        path = self.folder / f"{stage}.pt"
        numbered = {name: number for number, name in legacy.STAGES.items()}
        older = self.folder / f"stage{numbered.get(stage)}.pt"
        return older if older.is_file() and not path.is_file() else path

    @classmethod
    def create(cls, folder: Path, config: Config, manifest: dict[str, Any], command: str) -> Run:
        """Make the folder; refuse one that already holds a run that got as far as a checkpoint.

        Raises:
            UserError: the folder holds a run, or cannot be made.
        """
        run = cls(folder)
        if run.last.exists():
            raise UserError(
                f"{folder} already holds a run; choose another --name, or go on with --resume "
                f"{folder}"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_config(config, run._config)
            run._command.write_text(command + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write to {folder} ({error.strerror}); name another --out"
            ) from None
        run.write("manifest.json", manifest)
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run by its folder, or by a checkpoint in it.

        Raises:
            UserError: no run there.
        """
        folder = path.parent if path.suffix == ".pt" else path
        run = cls(folder)
        if not run._config.is_file():
            raise UserError(f"{path} is no run (it has no config.yaml); name a run folder")
        return run

    @classmethod
    def newest_unfinished(cls, out: Path) -> Run | None:
        """Find the run of ``out`` that was last written to and has no summary yet."""
        found = [p for p in out.glob("*/last.pt") if not (p.parent / "summary.json").is_file()]
        return cls(max(found, key=lambda p: p.stat().st_mtime).parent) if found else None

    # ---- what it is ----

    def config(self) -> Config:
        """Read the configuration of the run."""
        values = read_values(self._config)
        if legacy.is_legacy(values):
            values = legacy.config(values, self.folder)
        try:
            return SCHEMA.config({"resize": legacy.resize(values), **values})
        except UserError as error:
            raise UserError(f"{self._config}: {error}") from None

    def command(self) -> str:
        """The command that began the run."""
        if not self._command.is_file():
            return legacy.started(self.folder)[1]
        return self._command.read_text().splitlines()[0]

    def resumed_by(self, command: str) -> None:
        """Note a command that goes on with the run."""
        first = "" if self._command.is_file() else self.command() + "\n"
        with self._command.open("a") as file:
            file.write(f"{first}{command}\n")

    def check_architecture(self, config: Config) -> None:
        """Refuse a configuration to whose network this run's weights would mean other things.

        Raises:
            UserError: the first option that differs.
        """
        own, other = self.config().architecture(), config.architecture()
        for name in {**other, **own}:
            there, here = own.get(name, "not in use"), other.get(name, "not in use")
            if there != here:
                raise UserError(
                    f"{self.folder} is of another architecture: {name} is {there} there and {here} "
                    "here; leave out --preset to take its configuration"
                )

    def manifest(self) -> dict[str, Any]:
        """Read the manifest of the run's data."""
        manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return manifest

    def ranges(self) -> dict[str, tuple[float, float]]:
        """By kind of image of more than 8 bits, the values that are black and white."""
        ranges = self.manifest().get("ranges", {})
        return {kind: (low, high) for kind, (low, high) in ranges.items()}

    def check_manifest(self, manifest: dict[str, Any]) -> None:
        """Refuse to go on with other data than the run began with.

        Raises:
            UserError: a split whose digest differs.
        """
        own = self.manifest()
        if manifest["classes"] != own["classes"]:
            changed = sorted(set(own["classes"]) ^ set(manifest["classes"]))
            raise UserError(
                f"the classes differ from those of {self.folder} ({', '.join(changed[:3])}); "
                "restore their names, or start a new run"
            )
        if added := manifest["splits"].keys() - own["splits"].keys():
            raise UserError(
                f"there are {added.pop()} images, which {self.folder} began without; take them "
                "away, or start a new run"
            )
        for name in own["splits"]:
            self.check_split(name, manifest["splits"].get(name, {}))

    def check_split(self, name: str, record: dict[str, Any]) -> None:
        """Refuse a split of other images than the run began with.

        Args:
            record: of ``ltvr.data.manifest.split_record``.

        Raises:
            UserError: its digest differs.
        """
        own = self.manifest()["splits"].get(name)
        if own is None or not legacy.same_images(own, record):
            raise UserError(
                f"the {name} images differ from those of {self.folder} (sha256); "
                "restore them, or start a new run"
            )

    # ---- what it has done ----

    def records(self) -> list[dict[str, Any]]:
        """Read the records of the epochs so far, in order."""
        if not self._metrics.is_file():
            return []
        lines = self._metrics.read_text().splitlines()
        return [legacy.record(json.loads(line)) for line in lines]

    def append(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def truncate(self, stage: str, epoch: int, stages: list[str]) -> None:
        """Drop the records of ``epoch`` of ``stage`` and after: they are about to be made again.

        Args:
            stages: the names of all stages, in order.
        """
        at = (stages.index(stage), epoch)
        kept = [r for r in self.records() if (stages.index(r["stage"]), r["epoch"]) < at]
        self._write(self._metrics.name, "".join(json.dumps(r) + "\n" for r in kept))

    def read_summary(self) -> dict[str, Any]:
        """Read the summary of a finished run.

        Raises:
            UserError: the run is not finished.
        """
        if not self.summary.is_file():
            raise UserError(f"{self.folder} is not finished; go on with --resume {self.folder}")
        summary = json.loads(self.summary.read_text())
        return {**summary, "metrics": legacy.metrics(summary["metrics"])}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        self._write(name, json.dumps(value, indent=1) + "\n")

    def _write(self, name: str, text: str) -> None:
        """Write a file of the run so that a kill leaves the old one or the new one."""
        partial = self.folder / (name + ".partial")
        partial.write_text(text)
        os.replace(partial, self.folder / name)
