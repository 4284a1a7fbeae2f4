"""Presets, methods and the configuration of a run: from YAML and back.

A preset is a data set, a network and a schedule (``presets/``); a method is what is compared
(``methods/``). Any method goes with any preset: what a method says holds for every network.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml

from ltvr.backbones.options import BackboneOptions
from ltvr.config.command_line import title
from ltvr.config.config import Config, Schema
from ltvr.config.options import options_of
from ltvr.config.run import RunOptions
from ltvr.data.options import DataOptions
from ltvr.errors import UserError, expected
from ltvr.networks.options import NetworkOptions
from ltvr.stages.options import TrainingOptions

__all__ = [
    "SCHEMA",
    "load_config",
    "method_values",
    "methods",
    "preset_label",
    "presets",
    "read_values",
    "save_config",
    "with_method",
]

SCHEMA = Schema(DataOptions, BackboneOptions, NetworkOptions, TrainingOptions, RunOptions)
"""Every option of every component that is installed."""

PRESETS = Path(__file__).parent / "presets"
METHODS = Path(__file__).parent / "methods"
WHOLE = {"preset", "method", "stages", "seed"}
"""Options that a run's ``config.yaml`` has, and no preset."""
LARGEST_YAML = 100_000
"""Bytes; the configuration of a run, which names every option, is of 4,000."""
DEFAULT_METHOD = "ltvr"
"""The method of a preset that names none."""


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def methods() -> list[str]:
    """Names of the methods that come with the package."""
    return sorted(path.stem for path in METHODS.glob("*.yaml"))


def load_config(
    preset: str, method: str | None = None, overrides: dict[str, Any] | None = None
) -> Config:
    """Put a preset, a method and single options together; what is said later counts.

    The method that a preset names itself comes before the preset; one that is asked for here comes
    after it.

    Args:
        preset: a name of ``presets``, or a YAML file; a run's own ``config.yaml`` is whole and
            takes no method unless it is asked for here.
        method: a name of ``methods``, or a YAML file.
        overrides: values by option name, over both.

    Raises:
        UserError: no such preset, method or file, an unknown option, or a value that does not fit.
    """
    values = _read("preset", preset, PRESETS)
    if set(values) >= WHOLE:  # a run's own
        if method:
            values = with_method(values, method)
        return SCHEMA.config({**values, **(overrides or {})})
    if "preset" in values:
        raise UserError(
            f"preset {preset!r} names a preset itself; copy the lines that it is to share"
        )
    own = SCHEMA.options["method"].read(values.get("method", ""))
    named = method or own or DEFAULT_METHOD
    layers = [values, method_values(named)] if method else [method_values(named), values]
    labels = {"preset": preset_label(preset), "method": _label(named, methods())}
    merged: dict[str, Any] = {}
    for layer in (*layers, labels, overrides or {}):
        merged.update(layer)
    return SCHEMA.config(merged)


def with_method(values: dict[str, Any], method: str) -> dict[str, Any]:
    """The whole values of a run under another method.

    What the run's own method set is first as its preset has it, if that is one of the package's, or
    as it is by default.

    Raises:
        UserError: no such method, or the run's own is none of the package's.
    """
    own, new = values["method"], method_values(method)
    if own not in methods():
        raise UserError(
            f"the run's own method, {own!r}, is none of the package's, so what it set is not "
            "known; name a --preset, too"
        )
    named = values["preset"]
    preset = read_values(PRESETS / f"{named}.yaml") if named in presets() else {}
    reset = {name: preset.get(name, SCHEMA.options[name].default) for name in method_values(own)}
    return {**values, **reset, **new, "method": _label(method, methods())}


def preset_label(source: str) -> str:
    """What a run calls the preset that ``source`` names, or is a file of."""
    return _label(source, presets())


def _label(source: str, names: list[str]) -> str:
    """What a run calls its preset or method: the name, or the stem of a file.

    A file of which one of these names is the stem keeps an ending, to be told from that.
    """
    stem = Path(source).stem
    return f"{stem}.yaml" if stem in names and source not in names else stem


def method_values(method: str) -> dict[str, Any]:
    """The values that a method sets, by option name.

    Raises:
        UserError: no such method or file, or an unknown option in it.
    """
    values = _read("method", method, METHODS)
    for label in ("preset", "method"):
        if label in values:
            raise UserError(f"method {method!r} has the line {label!r}, which is not a method's")
    return values


def _read(kind: str, source: str, folder: Path) -> dict[str, Any]:
    """The values of a preset or method, by its name or its file, each as its option's type."""
    source = SCHEMA.options[kind].read(source)
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    path = folder / f"{source}.yaml" if source in names else Path(source)
    if not _is_file(path):
        lacks_file = path.suffix in (".yaml", ".yml")
        wanted = "there is no such file" if lacks_file else expected(source, names, ", or a file")
        raise UserError(f"{kind} {source!r}: {wanted}")
    values = read_values(path)
    try:
        return SCHEMA.read(values)
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_values(path: Path) -> dict[str, Any]:
    """Read a YAML file of ``option: value`` lines, without looking at names or values.

    Raises:
        UserError: the file cannot be read, is not YAML, or not of that form.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_YAML + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a YAML file") from None
    if len(content) > LARGEST_YAML:
        raise UserError(f"{path} is larger than {LARGEST_YAML} bytes: no file of options is")
    try:
        values = yaml.load(content.decode("utf-8-sig"), _Loader)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8; save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deep; expected `option: value` lines") from None
    except Exception as error:  # PyYAML's constructors raise many types
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict | None):
        raise UserError(f"{path}: expected `option: value` lines")
    return values or {}


class _Loader(yaml.SafeLoader):
    """Plain YAML: no value by reference, which can grow without bound, and no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse ``*name``."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "write the value out in place of the alias", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that is there already: the value that is meant would be anybody's guess."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is given twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: Any) -> int | float | str:
        """A number as people read it: YAML 1.1 takes 010 for 8 and 1:30 for 90."""
        text = str(self.construct_scalar(node))
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        return text


for tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{tag}", _Loader.construct_decimal)


def save_config(config: Config, path: Path) -> None:
    """Write the whole configuration as YAML, a section a component, for ``load_config`` to read.

    Options of components that are not in use are written where they differ from their defaults:
    a later stage that starts from the run may use them.
    """
    used: list[str] = []
    others: dict[str, Any] = {}
    for kind in config.schema.classes:
        own = {option.name: option.default for option in options_of(kind)}
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(config.of(kind)).items()
            if name in own
        }
        if kind in config.in_use:
            used.append(f"# {title(kind)}\n{_yaml(values)}")
        else:
            others |= {k: v for k, v in values.items() if v != own[k]}
    if others:
        used.append(f"# Not in use in this run\n{_yaml(others)}")
    path.write_text("\n".join(used), encoding="utf-8")


def _yaml(values: dict[str, Any]) -> str:
    """Lines of ``option: value``, a list on one line."""
    return "".join(
        f"{name}: {yaml.safe_dump(value, default_flow_style=True)}"
        if isinstance(value, list)
        else yaml.safe_dump({name: value})
        for name, value in values.items()
    )
