"""A run's folder: its configuration, manifest, records, checkpoints and summary."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ltvr.config import Config, load_config, save_config
from ltvr.errors import UserError

__all__ = ["Run"]

NETWORK = ("method", "backbone", "stem", "image_size")
AFA = ("insert_after", "reduction", "projection", "mask_axis", "mask_gain", "attention_addition")
"""With those above, the fields that decide what a model's weights mean."""


class Run:
    """The files of one run.

    ``config.yaml``, ``manifest.json``, ``metrics.jsonl`` (a line an epoch), ``last.pt`` (to go
    on), ``best.pt``, ``stage1.pt`` (what stage 2 starts from), ``final.pt`` (the
    reported weights), ``summary.json``, ``report.html``
    and TensorBoard events.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.pt"
        self.best = folder / "best.pt"
        self.stage1 = folder / "stage1.pt"
        self.final = folder / "final.pt"
        self.summary = folder / "summary.json"
        self.report = folder / "report.html"
        self._metrics = folder / "metrics.jsonl"

    @classmethod
    def create(cls, folder: Path, config: Config, manifest: dict[str, Any]) -> Run:
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
            save_config(config, folder / "config.yaml")
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
        if not (folder / "config.yaml").is_file():
            raise UserError(f"{path} is no run (it has no config.yaml); name a run folder")
        return cls(folder)

    @classmethod
    def newest_unfinished(cls, out: Path) -> Run | None:
        """Find the run of ``out`` that was last written to and has no summary yet."""
        found = [p for p in out.glob("*/last.pt") if not (p.parent / "summary.json").is_file()]
        return cls(max(found, key=lambda p: p.stat().st_mtime).parent) if found else None

    def config(self, overrides: dict[str, Any] | None = None) -> Config:
        """Read the configuration of the run, and lay ``overrides`` over it."""
        return load_config(str(self.folder / "config.yaml"), overrides)

    def check_architecture(self, config: Config) -> None:
        """Refuse a configuration to whose model this run's weights would mean other things.

        Raises:
            UserError: the first field that differs.
        """
        own = self.config()
        for name in NETWORK if config.method == "baseline" else (*NETWORK, *AFA):
            there, here = getattr(own, name), getattr(config, name)
            if there != here:
                raise UserError(
                    f"{self.folder} is of another architecture: {name} is {there} there and {here} "
                    "here; leave out --preset to take its configuration"
                )

    def manifest(self) -> dict[str, Any]:
        """Read the manifest of the run's data."""
        return json.loads((self.folder / "manifest.json").read_text())

    def check_manifest(self, manifest: dict[str, Any]) -> None:
        """Refuse to go on with other data than the run began with.

        Raises:
            UserError: a split whose digest differs.
        """
        for name, split in self.manifest()["splits"].items():
            if manifest["splits"].get(name, {}).get("sha256") != split["sha256"]:
                raise UserError(
                    f"the {name} images differ from those of {self.folder} (sha256); "
                    "restore them, or start a new run"
                )

    def records(self) -> list[dict[str, Any]]:
        """Read the records of the epochs so far, in order."""
        if not self._metrics.is_file():
            return []
        return [json.loads(line) for line in self._metrics.read_text().splitlines()]

    def append(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def truncate(self, stage: int, epoch: int) -> None:
        """Drop the records of ``epoch`` of ``stage`` and after: they are about to be made again."""
        kept = [r for r in self.records() if (r["stage"], r["epoch"]) < (stage, epoch)]
        self._metrics.write_text("".join(json.dumps(r) + "\n" for r in kept))

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        partial = self.folder / (name + ".partial")
        partial.write_text(json.dumps(value, indent=1) + "\n")
        os.replace(partial, self.folder / name)
