"""The runs that tables need, each once."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from ltvr.config.command_line import refuse_unused
from ltvr.data.options import DataOptions
from ltvr.errors import UserError
from ltvr.jobs.training import Training, decisive
from ltvr.reproduction.catalogue import Catalogue, NamedRun, Setting
from ltvr.settings import load_config

__all__ = ["Wants"]


class Wants:
    """The runs of a catalogue in one setting, below one folder.

    Args:
        catalogue: names the runs.
        setting: their data and schedule.
        out: the folder of the folder of the setting.
    """

    def __init__(self, catalogue: Catalogue, setting: Setting, out: Path) -> None:
        self.catalogue, self.setting, self.out = catalogue, setting, out / setting.name
        self._found: dict[tuple[str, int], Training | UserError] = {}
        self._decides: dict[Training, dict[str, Any]] = {}
        self._again: dict[Training, list[Training]] = {}

    def run(self, name: str, seed: int) -> Training:
        """The run of this name and seed; of those that are to be the same, the catalogue's first.

        So it is one folder, whichever tables are asked for, together or one after the other.

        Raises:
            UserError: a method or an option that this version lacks, options that do not fit, or a
                hold-out.
        """
        found = self._first(name, seed)
        if isinstance(found, UserError):
            raise found
        return found

    def again(self, run: Training) -> list[Training]:
        """A run; where it is finished without weights the same once more; of that, and so on.

        The last one has weights, or is yet to be trained.
        """
        if run not in self._again:
            found = self._again[run] = [run]
            while (more := found[-1].again()) is not None:
                found.append(more)
        return self._again[run]

    def _first(self, name: str, seed: int) -> Training | UserError:
        """As ``run``; why it cannot be made is no concern of the runs that come after it."""
        if (name, seed) not in self._found:
            try:
                wanted = self._make(self.catalogue.runs[name], seed)
                self._found[name, seed] = self._first_like(wanted, name, seed)
            except UserError as error:
                self._found[name, seed] = error
        return self._found[name, seed]

    def _first_like(self, wanted: Training, name: str, seed: int) -> Training:
        for other in takewhile(lambda other: other != name, self.catalogue.runs):
            # A run that starts from another is like no run that does not: it need not be made.
            if (self.catalogue.runs[other].source is None) == (wanted.source is None):
                before = self._first(other, seed)
                if isinstance(before, Training) and self._same(before, wanted):
                    return before
        return wanted

    def _make(self, run: NamedRun, seed: int) -> Training:
        source = None if run.source is None else self.run(run.source, seed)
        preset, own = self.setting.preset, {**run.options, "seed": seed}
        config = load_config(preset, run.method, {**self.setting.options, **own})
        used = config.effective().keys()  # a second stage alone has no use for epochs of the first
        options = {k: v for k, v in self.setting.options.items() if k in used} | own
        refuse_unused(config, options)
        if holdout := config.of(DataOptions).holdout:
            raise UserError(
                f"{run.name}: a table is of the test set, and holdout = {holdout:g} judges runs on "
                "a hold-out; leave it out"
            )
        name = f"{run.name}-seed{seed}"
        made = Training(run.name, name, self.out, preset, run.method, options, config, source)
        if source is None or made.look().state != "missing":
            return made
        return replace(made, source=self.again(source)[-1])

    def _same(self, one: Training, other: Training) -> bool:
        for run in (one, other):
            if run not in self._decides:
                self._decides[run] = decisive(run.config)
        return one.source == other.source and self._decides[one] == self._decides[other]
