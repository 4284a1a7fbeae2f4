"""A run's folder: its configuration, manifest, records, checkpoints and summary."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from ltvr.config.command_line import flag
from ltvr.config.config import Config
from ltvr.data.options import DataOptions
from ltvr.errors import OtherImages, UserError
from ltvr.runs import files, legacy
from ltvr.runs.checkpoint import TRAINING, Damaged, load_checkpoint, save_checkpoint
from ltvr.runs.forms import Form, check, read_json, read_text
from ltvr.runs.lock import Lock
from ltvr.runs.records import METRICS, NUMBER, append_record, read_records, truncate_records
from ltvr.settings import SCHEMA, WHOLE, read_values, save_config

__all__ = ["Run"]

ACCURACIES: Form = {"all": float, "many": NUMBER, "medium": NUMBER, "few": NUMBER}
LATER: Form = {
    "selected_on": (str, None),
    "batchnorm": ({"images": int, "reported": str, "accuracy": {str: ACCURACIES}}, None),
}
"""What the metrics of a stage hold in summaries of later versions; None where it was not done."""
SUMMARY: Form = {"metrics": {str: METRICS}, "seed": int, "environment": dict, "command": str}
MANIFEST: Form = {
    "classes": [str],
    "train_counts": [int],
    "splits": {str: {"images": int, "sha256": str}},
}
HELD_OUT: Form = {"holdout": {"counts": [int]}, "splits": {"hold-out": dict}}
"""What the manifest of a run with a hold-out holds besides."""
RANGES: Form = {"ranges": {str: [float]}}
"""And that of a run on images of more than 8 bits."""
DIVERGED = "diverged.txt"
BEGUN = {
    "config.yaml", "manifest.json", "command.txt", "lock", "tensorboard", "metrics.jsonl", DIVERGED,
}  # fmt: skip
"""What there may be of a run that is to begin again: it has no checkpoint, and no result."""


class Run:
    """The files of one run. As a context manager it lets go of the folder's lock at the end.

    =====================  =========================================================================
    ``config.yaml``        everything that decides the result
    ``manifest.json``      which images, with sha256
    ``command.txt``        the command that began it, and those that resumed it, a line each
    ``metrics.jsonl``      a record an epoch
    ``last.pt``            everything needed to go on
    ``previous.pt``        the ``last.pt`` of before, for when that is damaged
    ``best-STAGE.pt``      the same of the best epoch of a stage, with the evaluated weights
    ``STAGE.pt``           the reported weights of each stage
    ``final.pt``           the reported weights of the last stage
    ``summary.json``       the reported numbers
    ``report.html``        the page for a person; ``tensorboard/`` has the curves
    ``diverged.txt``       that its loss was no longer a number, until it is gone on with
    ``lock``               who trains here, or did so last
    =====================  =========================================================================
    """

    writes = True
    """Whether this process writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.pt"
        self.previous = folder / "previous.pt"
        self.final = folder / "final.pt"
        self.summary = folder / "summary.json"
        self.report = folder / "report.html"
        self._config = folder / "config.yaml"
        self._command = folder / "command.txt"
        self._metrics = folder / "metrics.jsonl"
        self._diverged = folder / DIVERGED
        self._lock: Lock | None = None

    @property
    def name(self) -> str:
        """That of its folder, which may have been named as ``.``."""
        return self.folder.name or self.folder.resolve().name

    def weights(self, stage: str) -> Path:
        """The file of the reported weights of a stage."""
        path = self.folder / f"{stage}.pt"
        numbered = {name: number for number, name in legacy.STAGES.items()}
        older = self.folder / f"stage{numbered.get(stage)}.pt"
        return older if older.is_file() and not path.is_file() else path

    def best(self, stage: str) -> Path:
        """The file of the best epoch of a stage; it was ``best.pt`` in ltvr 0.1 and 0.2."""
        path, older = self.folder / f"best-{stage}.pt", self.folder / "best.pt"
        return older if older.is_file() and not path.is_file() else path

    @classmethod
    def create(
        cls,
        folder: Path,
        config: Config,
        manifest: dict[str, Any],
        command: str,
        *,
        numbered: bool = False,
    ) -> Run:
        """Make the folder of a new run, and lock it.

        A folder may be taken over of whose run there is neither a checkpoint nor a summary.

        Args:
            numbered: where the folder is taken, take one with ``-2``, ``-3``, ... behind its name.

        Raises:
            UserError: the folder holds a run or something else, or cannot be made.
        """
        taken = 1
        while True:
            tried = folder if taken == 1 else folder.with_name(f"{folder.name}-{taken}")
            try:
                tried.parent.mkdir(parents=True, exist_ok=True)
                tried.mkdir()
            except FileExistsError as error:
                if numbered and tried.is_dir():
                    taken += 1
                    continue
                if not tried.is_dir():
                    raise UserError(
                        f"{error.filename} is in the way; name another --out or --name"
                    ) from None
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"cannot write to {tried} ({reason}); name another --out or --name"
                ) from None
            break
        run = cls(tried)
        run.hold(command)
        try:
            run.refuse_taken()
            run._metrics.unlink(missing_ok=True)
            run.forget_diverged()
            with files.replacing(run._config) as partial:
                save_config(config, partial)
            files.write(run._command, command + "\n")
            run.write("manifest.json", manifest)
        except BaseException:
            run.release()
            raise
        return run

    def refuse_taken(self) -> None:
        """Refuse a folder that holds a checkpoint or a summary, or what is not of a run.

        Raises:
            UserError: says what it holds.
        """
        if not self.folder.is_dir():
            return
        if self.resumable:
            raise UserError(
                f"{self.folder} already holds a run; choose another --name, or go on with --resume "
                f"{self.folder}"
            )
        if self.summary.is_file():
            raise UserError(
                f"{self.folder} already holds a run, whose checkpoints have been deleted; choose "
                "another --name, or take the folder away"
            )
        ours = self._names()  # begun, in a kill in the first save
        names = (path.name for path in self.folder.iterdir())
        others = sorted(n for n in names if n not in BEGUN and files.begun_file(n) not in ours)
        if others:
            raise UserError(
                f"{self.folder} already holds {others[0]}, which is not of a run; choose another "
                "--name"
            )

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run by its folder, or by a checkpoint in it.

        Raises:
            UserError: no run there, or no such checkpoint.
        """
        folder = path.parent if path.suffix == ".pt" and not os.path.isdir(path) else path
        run = cls(folder)
        try:
            found = run._config.is_file()
        except OSError:  # a name that no file can have
            found = False
        if not found:
            raise UserError(f"{path} is no run (it has no config.yaml); name a run folder")
        if path != folder and not path.is_file():
            raise UserError(f"checkpoint {path} is missing; name a run folder or a .pt file")
        return run

    # ---- whose it is, and how far it got ----

    def hold(self, command: str) -> None:
        """Lock the folder until ``release``, or the end of the process; drop what a kill left.

        Raises:
            UserError: another process holds it, or it cannot be written to.
        """
        if self._lock is None:
            self._lock = Lock(self.folder, command, begins=not self.resumable)
            ours = self._names()
            for partial in [*self.folder.iterdir()]:
                if files.begun_file(partial.name) in ours and partial.is_file():
                    try:
                        partial.unlink(missing_ok=True)
                    except OSError as error:
                        self.release()
                        raise files.cannot_write(partial, error) from None

    def _names(self) -> set[str]:
        """The files that are written here, whole, by ltvr of this version and before."""
        stages = SCHEMA.options["stages"].slot.names()
        own = (self._config, self._command, self._metrics, self._diverged, self.last, self.final)
        return {path.name for path in (*own, self.summary, self.report)} | {
            "manifest.json",
            "best.pt",
            *(f"{kind}{stage}.pt" for stage in stages for kind in ("", "best-")),
            *(f"stage{number}.pt" for number in legacy.STAGES),
        }

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.last.is_file() or self.previous.is_file()

    @property
    def finished(self) -> bool:
        """Whether its summary is there, and its report, which is written after it.

        Of a folder whose checkpoints have been deleted the summary is enough.
        """
        try:
            self.read_summary()
        except UserError:
            return False
        return self.report.is_file() or not self.resumable

    @property
    def diverged(self) -> str:
        """What was said when its loss was no longer a number; empty if that has not been."""
        return read_text(self._diverged).strip() if self._diverged.is_file() else ""

    def note_diverged(self, line: str) -> None:
        """Keep that its loss is no longer a number: to go on with it would not help.

        Raises:
            CannotWrite: a disk that is full, read-only or broken.
        """
        files.write(self._diverged, f"{line}\n")

    def forget_diverged(self) -> None:
        """Let it be tried again."""
        self._diverged.unlink(missing_ok=True)

    def lacks(self, weights: Path) -> UserError:
        """What there is to say where a file of weights is not there: not yet, or no longer."""
        if self.summary.is_file():
            return UserError(
                f"{self.folder} is finished, and its {weights.name} has been deleted; restore it, "
                "or train the run again under another --name"
            )
        return UserError(
            f"{self.folder} has no {weights.name} yet; go on with --resume {self.folder}"
        )

    @property
    def written(self) -> float:
        """When it last got further, in seconds since 1970; it has a checkpoint."""
        try:
            return self.last.stat().st_mtime
        except FileNotFoundError:  # lost, or another process is saving
            return self.previous.stat().st_mtime

    def save(self, state: dict[str, Any]) -> None:
        """Save the state of training; the one before is kept.

        Raises:
            CannotWrite: a disk that is full, read-only or broken.
        """
        save_checkpoint(self.last, state, former=self.previous)

    def save_weights(self, name: str, state: dict[str, Any]) -> None:
        """Write another checkpoint of the run, by the name of its file.

        Raises:
            CannotWrite: as ``save``.
        """
        save_checkpoint(self.folder / name, state)

    def load(self) -> tuple[dict[str, Any], str | None]:
        """Read the state of training to go on from.

        Returns:
            The state; and, where ``last.pt`` is damaged or missing and the one before was taken,
            a line that says so.

        Raises:
            UserError: there is none that is whole.
        """
        state, damage = self.peek()
        if damage is not None:
            # Or the next save would put the damaged one in the place of the one that is whole.
            try:
                os.replace(self.previous, self.last)
            except OSError as error:
                raise files.cannot_write(self.last, error) from None
        return state, damage

    def peek(self) -> tuple[dict[str, Any], str | None]:
        """What ``load`` returns; nothing is renamed."""
        try:
            if self.last.is_file() or not self.previous.is_file():
                return load_checkpoint(self.last, TRAINING), None
            damage = f"{self.last} is missing"
        except Damaged as error:
            if not self.previous.is_file():
                raise
            damage = str(error)
        try:
            state = load_checkpoint(self.previous, TRAINING)
        except Damaged as error:
            raise UserError(f"{damage}, and {error}; restore one of them, or start again") from None
        return state, f"{damage}; going on from the checkpoint before it"

    # ---- what it is ----

    def config(self) -> Config:
        """Read the configuration of the run."""
        read_text(self._config)
        values = read_values(self._config)
        if legacy.is_legacy(values):
            values = legacy.config(values, self.folder)
        elif missing := sorted(WHOLE - set(values)):
            raise UserError(f"{self._config} lacks {missing[0]}; restore it from a copy")
        try:
            return SCHEMA.config({**legacy.later_options(values), **values})
        except UserError as error:
            raise UserError(f"{self._config}: {error}") from None

    def command(self) -> str:
        """The command that began the run."""
        if not self._command.is_file():
            if legacy.is_legacy(read_values(self._config)):
                return legacy.started(self.folder)[1]
            raise UserError(
                f"{self._command} is missing; write the command that began the run there"
            )
        lines = read_text(self._command).splitlines()
        if not lines:
            raise UserError(f"{self._command} is empty; write the command that began the run there")
        return lines[0]

    def resumed_by(self, command: str) -> None:
        """Note a command that goes on with the run."""
        before = read_text(self._command) if self._command.is_file() else self.command() + "\n"
        files.write(self._command, f"{before}{command}\n")

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
                    f"here; leave out {flag(name)}, or the --preset or --method that sets it"
                )

    def manifest(self) -> dict[str, Any]:
        """Read the manifest of the run's data."""
        path = self.folder / "manifest.json"
        manifest: dict[str, Any] = read_json(path, MANIFEST)
        if "ranges" in manifest:
            check(manifest, RANGES, path)
        if len(manifest["train_counts"]) != len(manifest["classes"]):
            raise UserError(
                f"{path}: train_counts of {len(manifest['train_counts'])} classes, expected "
                f"{len(manifest['classes'])}, as there are classes; restore it from a copy"
            )
        if self.config().of(DataOptions).holdout:
            check(manifest, HELD_OUT, path)
        return manifest

    def ranges(self) -> dict[str, tuple[float, float]]:
        """By kind of image of more than 8 bits, the values that are black and white."""
        ranges = self.manifest().get("ranges", {})
        return {kind: (low, high) for kind, (low, high) in ranges.items()}

    def check_manifest(self, manifest: dict[str, Any]) -> None:
        """Refuse to go on with other data than the run began with.

        Raises:
            OtherImages: a split whose digest differs.
        """
        own = self.manifest()
        if manifest["classes"] != own["classes"]:
            changed = sorted(set(own["classes"]) ^ set(manifest["classes"]))
            raise OtherImages(
                f"the classes differ from those of {self.folder} ({', '.join(changed[:3])}); "
                "restore their names, or start a new run"
            )
        if added := manifest["splits"].keys() - own["splits"].keys():
            raise OtherImages(
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
            OtherImages: its digest differs.
        """
        own = self.manifest()["splits"].get(name)
        if own is None or not legacy.same_images(own, record):
            raise OtherImages(
                f"the {name} images differ from those of {self.folder} (sha256); "
                "restore them, or start a new run"
            )

    def same_images(self, other: Run, split: str) -> bool:
        """Whether both runs have a split, and the same images in it."""
        own, theirs = (run.manifest()["splits"].get(split) for run in (self, other))
        if own is None or theirs is None:
            return False
        return legacy.same_images(own, theirs) or legacy.same_images(theirs, own)

    # ---- what it has done ----

    def records(self) -> list[dict[str, Any]]:
        """Read the records of the epochs so far, in order: ``read_records``."""
        return read_records(self._metrics)

    def append(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch: ``append_record``."""
        append_record(self._metrics, record)

    def truncate(self, stage: str, epoch: int, stages: list[str]) -> None:
        """Drop the records of ``epoch`` of ``stage`` and after: ``truncate_records``."""
        truncate_records(self._metrics, stage, epoch, stages)

    def read_summary(self) -> dict[str, Any]:
        """Read the summary of a finished run.

        Raises:
            UserError: the run is not finished, or the file is not what was written.
        """
        if not self.summary.is_file():
            raise UserError(f"{self.folder} is not finished; go on with --resume {self.folder}")
        summary: dict[str, Any] = read_json(self.summary, SUMMARY)
        for stage, metrics in summary["metrics"].items():
            found = {key: metrics.get(key) for key in LATER}
            check(found, LATER, self.summary, f"metrics.{stage}")
        return {**summary, "metrics": legacy.metrics(summary["metrics"])}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file of the run, whole and durable.

        Raises:
            CannotWrite: a disk that is full, read-only or broken.
        """
        files.write(self.folder / name, json.dumps(value, indent=1) + "\n")
