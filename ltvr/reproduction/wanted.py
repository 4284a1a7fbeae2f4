"""The runs that tables need, each once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
        self._found: dict[tuple[str, int], Training] = {}
        self._again: dict[Training, list[Training]] = {}

    def run(self, name: str, seed: int) -> Training:
        """The run of this name and seed; of two that are to be the same, the one asked for first.

        Raises:
            UserError: a method or an option that this version lacks, options that do not fit, or a
                hold-out.
        """
        if (name, seed) not in self._found:
            wanted = self._make(self.catalogue.runs[name], seed)
            same = (other for other in self._found.values() if _same(other, wanted))
            self._found[name, seed] = next(same, wanted)
        return self._found[name, seed]

    def again(self, run: Training) -> list[Training]:
        """A run; where it is finished without weights the same once more; of that, and so on.

        The last one has weights, or is yet to be trained.
        """
        if run not in self._again:
            found = self._again[run] = [run]
            while (more := found[-1].again()) is not None:
                found.append(more)
        return self._again[run]

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


def _same(one: Training, other: Training) -> bool:
    return one.source == other.source and decisive(one.config) == decisive(other.config)
