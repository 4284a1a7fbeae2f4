"""Options: fields of frozen dataclasses that carry their help text, range and meaning.

A component declares each of its options once, with ``option``. YAML, the command line, ``--help``,
the errors for values out of range and the check for another architecture all follow from there.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from ltvr.errors import UserError

__all__ = ["NoOptions", "Option", "Options", "convert", "option", "options_of"]


def option(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    slot: Any = None,
    optional: bool = False,
    architecture: bool = False,
) -> Any:
    """Declare one option as a field of an ``Options`` dataclass.

    Args:
        default: the value where neither preset, method nor command line give one.
        text: what it is, for ``--help``.
        at_least, above, at_most, below: the range of a number; numbers are always finite.
        slot: the ``ltvr.config.slots.Slot`` whose components are the choices.
        optional: whether ``none`` (no component of the slot) is a choice as well.
        architecture: whether it decides what the weights of a network mean.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {
        "text": text,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "slot": slot,
        "optional": optional,
        "architecture": architecture,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """Base of all options; holds every value to its range when it is made.

    The first line of a subclass's docstring is its heading in ``--help`` and ``config.yaml``.
    """

    def __post_init__(self) -> None:
        for each in options_of(type(self)):
            each.check(getattr(self, each.name))

    def check(self, config: Any) -> None:
        """Check these options against the others of ``config``; called for options in use.

        Raises:
            UserError: options that do not fit together.
        """


@dataclass(frozen=True)
class NoOptions(Options):
    """Options of a component that has none."""


@dataclass(frozen=True)
class Option:
    """One declared option."""

    name: str
    kind: Any
    """Its type: int, float, bool, str, a Literal, a tuple of float or str, or float | None."""
    default: Any
    text: str
    limits: dict[str, float]
    slot: Any
    optional: bool
    architecture: bool

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The values it can have, where they can be listed."""
        if self.slot is not None:
            return (*self.slot.names(), *(("none",) if self.optional else ()))
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else None

    def check(self, value: Any) -> None:
        """Raise a UserError unless ``value`` is one of the choices and within the range."""
        several = isinstance(value, tuple)
        if self.choices is not None:
            for chosen in value if several else (value,):
                if chosen not in self.choices:
                    raise UserError(
                        f"{self.name} = {chosen!r}: expected one of {', '.join(self.choices)}"
                    )
            return
        for number in value if several else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                self._check_range(number)

    def _check_range(self, value: float) -> None:
        holds = {
            "at_least": lambda limit: value >= limit,
            "above": lambda limit: value > limit,
            "at_most": lambda limit: value <= limit,
            "below": lambda limit: value < limit,
        }
        finite = abs(value) <= sys.float_info.max  # math.isfinite fails on larger integers
        if finite and all(holds[k](limit) for k, limit in self.limits.items()):
            return
        wanted = [f"{k.replace('_', ' ')} {limit:g}" for k, limit in self.limits.items()]
        raise UserError(f"{self.name} = {value}: expected {', '.join([*wanted, 'finite'])}")


def options_of(kind: type[Options]) -> list[Option]:
    """The options that a class declares, in order."""
    types_of = typing.get_type_hints(kind)
    return [
        Option(f.name, types_of[f.name], f.default, **f.metadata) for f in dataclasses.fields(kind)
    ]


def convert(option: Option, value: Any) -> Any:
    """Hold a value read from YAML to the type of its option.

    Raises:
        UserError: a value of another type.
    """
    kind, origin = option.kind, typing.get_origin(option.kind)
    if origin is Literal:
        return value
    if origin is types.UnionType:  # float | None
        return None if value in (None, "none") else _number(option, value)
    if origin is tuple:
        (item, *_) = typing.get_args(kind)
        if item is str and isinstance(value, str):
            return (value,)
        if item is float and value in ("none", ["none"], (None,)):
            return ()
        if isinstance(value, list | tuple):
            return tuple(_number(option, v) if item is float else _text(option, v) for v in value)
        wanted = "a list of numbers" if item is float else "a list of names"
        raise UserError(f"{option.name} = {value!r}: expected {wanted}")
    if kind is float:
        return _number(option, value)
    if type(value) is kind:
        return value
    wanted = {int: "a whole number", bool: "true or false", str: "text"}[kind]
    raise UserError(f"{option.name} = {value!r}: expected {wanted}")


def _number(option: Option, value: Any) -> float:
    if type(value) in (int, float, str):
        try:
            return float(value)  # YAML 1.1 reads 5e-4 as a string
        except (ValueError, OverflowError):
            pass
    raise UserError(f"{option.name} = {value!r}: expected a number")


def _text(option: Option, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise UserError(f"{option.name} = {value!r}: expected a name")
