"""What tables and figures are made of, read from YAML: runs, rows, the paper's numbers, claims.

The files are in ``catalogue/``: ``runs.yaml`` names every run once, ``budgets.yaml`` the preset
that a budget trains a data set with; every other file is a table, or a figure, whose rows are its
runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ltvr.engine.accuracy_table import SUBSETS
from ltvr.errors import UserError, brief
from ltvr.settings import SCHEMA, load_config, method_values, preset_label, read_values
from ltvr.stages import STAGES
from ltvr.stages.options import TrainingOptions

__all__ = ["CATALOGUE", "Catalogue", "Claim", "NamedRun", "Row", "Setting", "Table"]

CATALOGUE = Path(__file__).parent / "catalogue"
COUNTED = ("imbalance", "imbalance_type", "many_above", "few_below")
"""Options that decide how many images classes have, and which are many, medium and few."""
NOT_TABLES = ("runs", "budgets")

T = TypeVar("T")


@dataclass(frozen=True)
class NamedRun:
    """A run that rows share: what is trained, but for the data, the schedule and the seed."""

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """By option name, over preset and method."""
    source: str | None = None
    """The run whose trained features it starts from."""
    repeated: bool = False
    """Whether tables train it with every seed, and not with the first alone."""


@dataclass(frozen=True)
class Row:
    """A row of a table: what it shows of which run, and what the paper has there."""

    label: str
    run: str
    result: str = ""
    """The stage of the run whose result it shows; empty for a ``head``."""
    head: str = ""
    """The head on the run's finished first stage that it shows (``ltvr.heads``)."""
    paper: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """By data set, percent in the order of ``SUBSETS``; None of a subset without classes."""

    @property
    def shows(self) -> str:
        """The stage or the head that it shows."""
        return self.result or self.head


@dataclass(frozen=True)
class Claim:
    """What the paper concludes, or would of rows it lacks: one is above another, in a column."""

    above: str
    below: str
    column: str = "all"


@dataclass(frozen=True)
class Table:
    """A table, or the runs of a figure."""

    name: str
    title: str
    datasets: Mapping[str, tuple[str, ...]]
    """By budget."""
    over: Mapping[str, str]
    """The label of the row that gains are over, by what a row shows."""
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    weights: bool = False
    """Whether it is drawn from the weights of its runs, and not from what they report."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """By option name: what all its runs have, so that added methods are trained like its rows."""

    def row(self, label: str) -> Row:
        """The row of this label."""
        return next(row for row in self.rows if row.label == label)


@dataclass(frozen=True)
class Setting:
    """The data and the schedule of all runs of a table."""

    dataset: str
    preset: str
    """A name, or a YAML file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Over the preset, by option name."""
    differs: Mapping[str, Any] = field(default_factory=dict)
    """Of ``COUNTED``, what the budgets, and so the paper, do not have for the data set: no number
    of the paper is of these data."""

    @property
    def name(self) -> str:
        """Of its folder of runs, and in the names of its tables: another for other data."""
        parts = [preset_label(self.preset)]
        if self.options.get("dataset") == self.dataset:  # and not the preset's own
            parts.append(self.dataset)
        if self.dataset == "folder" and "root" in self.options:
            parts.append(Path(self.options["root"]).name)
        return "-".join([*parts, *(f"{name}{value}" for name, value in self._differing())])

    @property
    def described(self) -> str:
        """The data, for a reader."""
        return ", ".join([self.dataset, *(f"{name} {value}" for name, value in self._differing())])

    def _differing(self) -> Iterator[tuple[str, str]]:
        for name, value in self.differs.items():
            yield name, f"{value:g}" if isinstance(value, int | float) else str(value)


@dataclass(frozen=True)
class Catalogue:
    """All tables and figures, and the runs that they share."""

    runs: Mapping[str, NamedRun]
    tables: Mapping[str, Table]
    budgets: Mapping[str, Mapping[str, Setting]]
    """By budget and data set."""

    @classmethod
    def read(cls, folder: Path) -> Catalogue:
        """Read the YAML files of a folder, and hold them to one another.

        Raises:
            UserError: a file that is missing or of another form, a row of a run that is not there,
                a claim about a row that is not there, a label twice.
        """
        runs = {
            name: _made(NamedRun, {"name": name, **_renamed(values)}, f"runs.yaml, {name}")
            for name, values in _mapping(folder / "runs.yaml").items()
        }
        budgets = {
            budget: {name: _setting(name, values) for name, values in settings.items()}
            for budget, settings in _mapping(folder / "budgets.yaml").items()
        }
        tables = {
            path.stem: _table(path)
            for path in sorted(folder.glob("*.yaml"))
            if path.stem not in NOT_TABLES
        }
        catalogue = cls(runs, tables, budgets)
        catalogue._check()
        return catalogue

    def held_to_the_budgets(self, setting: Setting) -> Setting:
        """A setting that knows in what its data differ from those of the budgets.

        Raises:
            UserError: no such preset, or options that do not fit.
        """
        known = [of[setting.dataset] for of in self.budgets.values() if setting.dataset in of]
        if not known:
            return setting
        ours, theirs = (
            load_config(each.preset, "baseline", dict(each.options)).effective()
            for each in (setting, known[0])
        )
        differs = {k: ours[k] for k in COUNTED if k in ours and ours[k] != theirs.get(k)}
        return replace(setting, differs=differs)

    def with_methods(self, methods: Sequence[str]) -> Catalogue:
        """The same with more rows in every table that has those of the two stages.

        A method has a row for each of its stages, and the options that the table says of its runs.
        A gain of a second stage that the table does not have is over its row for cRT.

        Args:
            methods: names, or YAML files; each is trained with every seed.

        Raises:
            UserError: there is no such method, a row of its name, or it trains no features.
        """
        runs, tables = dict(self.runs), dict(self.tables)
        stages = {method: _stages(method) for method in methods}
        for method in methods:  # before those of tables: runs that are the same have the first name
            run = _added(method, {})
            runs[run.name] = run
        for name, table in self.tables.items():
            rows: list[Row] = []
            for method in methods:
                label, run = Path(method).stem, _added(method, table.options)
                runs[run.name] = run
                rows += [Row(label + _END.get(s, ""), run.name, s) for s in stages[method]]
            tables[name] = _with_rows(table, rows)
        catalogue = Catalogue(runs, tables, self.budgets)
        catalogue._check()
        return catalogue

    def _check(self) -> None:
        for run in self.runs.values():
            if run.source is not None and run.source not in self.runs:
                raise UserError(f"runs.yaml, {run.name}: there is no run {run.source!r}")
        for table in self.tables.values():
            labels = [row.label for row in table.rows]
            if twice := [label for label in labels if labels.count(label) > 1]:
                raise UserError(f"{table.name}.yaml: two rows are called {twice[0]!r}")
            named = [*table.over.values(), *(x for c in table.claims for x in (c.above, c.below))]
            for label in named:
                if labels.count(label) != 1:
                    raise UserError(
                        f"{table.name}.yaml: {labels.count(label)} rows are called {label!r}, "
                        "expected one"
                    )
            for row in table.rows:
                _check_row(table, row, self.runs)
                options = self.runs[row.run].options
                if not table.options.items() <= options.items():
                    raise UserError(
                        f"{table.name}.yaml, {row.label!r}: expected a run with "
                        f"{brief(dict(table.options))}, as the table says of all"
                    )


_END = {
    name: f" + {'Crt' if name == 'crt' else STAGES.get(name).title}"
    for name in STAGES.names()
    if STAGES.get(name).needs_trained
}
"""Of the labels of rows for stages after the first; the paper writes Crt."""


def _added(method: str, options: Mapping[str, Any]) -> NamedRun:
    """The run of an added method, named by it and by its options."""
    like = "".join(f"-{option}{value}" for option, value in options.items())
    return NamedRun(f"method-{Path(method).stem}{like}", method, options, repeated=True)


def _stages(method: str) -> tuple[str, ...]:
    """The stages that a method trains.

    Raises:
        UserError: there is no such method, or its first stage starts from trained features.
    """
    values = method_values(method)
    named = {"stages": values["stages"]} if "stages" in values else {}
    stages = SCHEMA.config(named).of(TrainingOptions).stages
    if stages[0] in _END:
        raise UserError(
            f"--with {method}: its first stage, {stages[0]}, starts from trained features; have it "
            "train them, stages: [features, ...]"
        )
    return stages


def _with_rows(table: Table, rows: Sequence[Row]) -> Table:
    """A table with those of these rows that there is a row for which gains are over."""
    over = {row.shows: table.over.get("crt") for row in rows if row.shows in _END}
    known = {**{shows: label for shows, label in over.items() if label}, **table.over}
    more = [row for row in rows if row.shows in known]
    return replace(table, over=known, rows=(*table.rows, *more))


def _check_row(table: Table, row: Row, runs: Mapping[str, NamedRun]) -> None:
    where = f"{table.name}.yaml, {row.label!r}"
    if row.run not in runs:
        raise UserError(f"{where}: there is no run {row.run!r} in runs.yaml")
    if bool(row.result) == bool(row.head):
        raise UserError(f"{where}: expected a result (a stage of the run) or a head")
    if row.shows not in table.over:
        raise UserError(f"{where}: `over` names no row for {row.shows!r}")
    for dataset, numbers in row.paper.items():
        if len(numbers) != len(SUBSETS):
            raise UserError(f"{where}: {len(numbers)} numbers for {dataset}, expected 4")


def _table(path: Path) -> Table:
    values, name = _mapping(path), path.name
    rows = tuple(_made(Row, _with_tuples(row), name) for row in values.pop("rows", ()))
    claims = tuple(_made(Claim, claim, name) for claim in values.pop("claims", ()))
    datasets = {budget: tuple(names) for budget, names in values.pop("datasets", {}).items()}
    notes = tuple(values.pop("notes", ()))
    parts = {"rows": rows, "claims": claims, "datasets": datasets, "notes": notes}
    return _made(Table, {"name": path.stem, **parts, **values}, name)


def _with_tuples(row: Any) -> Any:
    paper = row.get("paper") if isinstance(row, dict) else None
    return row if paper is None else {**row, "paper": {k: tuple(v) for k, v in paper.items()}}


def _setting(dataset: str, values: dict[str, Any]) -> Setting:
    if "preset" not in values:
        raise UserError(f"budgets.yaml, {dataset}: expected a preset")
    options = {name: value for name, value in values.items() if name != "preset"}
    return Setting(dataset, values["preset"], options)


def _renamed(values: Any) -> Any:
    """``from`` of a run is a word of Python."""
    return {"source" if k == "from" else k: v for k, v in values.items()}


def _mapping(path: Path) -> dict[str, Any]:
    return {str(name): value for name, value in read_values(path).items()}


def _made(kind: type[T], values: Any, where: str) -> T:
    """An instance of a dataclass, from what a YAML file has.

    Raises:
        UserError: a key that is missing, or that it does not have.
    """
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or values.keys() - known:
        raise UserError(f"{where}: {brief(values)}: expected {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None
