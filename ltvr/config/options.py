"""Options: fields of frozen dataclasses that carry their help text, range and meaning.

A component declares each of its options once, with ``option``. YAML, the command line, ``--help``,
the errors for values out of range and the check for another architecture all follow from there.
"""

from __future__ import annotations

import dataclasses
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ltvr.errors import UserError, brief, expected

__all__ = ["NoOptions", "Option", "Options", "lineage", "none_of", "option", "options_of"]

LARGEST_INT = 2**31 - 1
"""Of whole numbers that declare no upper limit: what every library takes as a size."""
LARGEST_FLOAT = 1e18
"""Of other numbers, and its inverse the smallest above 0: a product of two is in float32."""


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
    inference: bool = False,
    idle: Mapping[str, Any] | None = None,
    idle_together: Mapping[str, Any] | None = None,
) -> Any:
    """Declare one option as a field of an ``Options`` dataclass.

    Args:
        default: the value where neither preset, method nor command line give one.
        text: what it is, for ``--help``.
        at_least, above, at_most, below: the range of a number. Without an upper limit it is
            ``LARGEST_INT`` or ``LARGEST_FLOAT``; nan and infinity are never in it.
        slot: the ``ltvr.config.slots.Slot`` whose components are the choices.
        optional: whether ``none`` (no component of the slot) is a choice as well.
        architecture: whether it decides what the weights of a network mean.
        inference: whether it is of inference alone, so that commands on a trained network may set
            it anew.
        idle: values of other options, each of which makes this one change nothing; a list is of
            several such values, a function says it of a value (``none_of``).
        idle_together: values of other options that make it change nothing where all of them hold.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {
        "text": text,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "slot": slot,
        "optional": optional,
        "architecture": architecture,
        "inference": inference,
        "idle": {k: v if isinstance(v, list) else [v] for k, v in (idle or {}).items()},
        "idle_together": idle_together or {},
    }
    return field(default=default, metadata=metadata)


def none_of(*names: str) -> Callable[[Sequence[str]], bool]:
    """A condition of ``idle``, of an option with several values: it has none of these."""
    return lambda values: not {*names} & {*values}


def _holds(condition: Any, value: Any) -> bool:
    return bool(condition(value)) if callable(condition) else bool(value == condition)


@dataclass(frozen=True)
class Options:
    """Base of all options; holds every value to its type and range when it is made.

    The first line of a subclass's docstring is its heading in ``--help`` and ``config.yaml``.
    Options that several components share are declared in a common base of theirs, which has a
    heading of its own and is in use where any of them is.
    """

    def __post_init__(self) -> None:
        for kind in lineage(type(self)):
            for each in options_of(kind):
                object.__setattr__(self, each.name, each.read(getattr(self, each.name)))

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
    inference: bool
    idle: Mapping[str, list[Any]]
    idle_together: Mapping[str, Any]

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The values it can have, where they can be listed."""
        if self.slot is not None:
            return (*self.slot.names(), *(("none",) if self.optional else ()))
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else None

    def idle_by(self, values: Mapping[str, Any]) -> list[str]:
        """The other options by whose ``values`` this one changes nothing; none where it counts."""
        for name, those in self.idle.items():
            if any(_holds(each, values[name]) for each in those):
                return [name]
        together = self.idle_together
        return [*together] if all(_holds(v, values[name]) for name, v in together.items()) else []

    def read(self, value: Any) -> Any:
        """``value``, from YAML, the command line or Python, as this option's type and in its range.

        Numbers of NumPy are numbers; a text that is a number is one as well, since YAML 1.1 reads
        5e-4 as a text.

        Raises:
            UserError: a value of another type, out of range, or that is none of the choices.
        """
        several = typing.get_origin(self.kind) is tuple
        item = typing.get_args(self.kind)[0] if several else self.kind
        if several:
            return tuple(self._read_one(item, each) for each in self._listed(item, value))
        if typing.get_origin(item) is types.UnionType:  # float | None
            none = value is None or isinstance(value, str) and value == "none"
            return None if none else self._read_one(float, value)
        return self._read_one(item, value)

    def _listed(self, item: Any, value: Any) -> list[Any] | tuple[Any, ...]:
        if item is float and isinstance(value, str) and value == "none":
            return ()
        if item is str and isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple):
            none = item is float and len(value) == 1 and value[0] in (None, "none")
            return () if none else value
        raise self._refuse(value, f"a list of {'numbers' if item is float else 'names'}")

    def _read_one(self, kind: Any, value: Any) -> Any:
        if self.choices is not None:
            return self._chosen(self.choices, value)
        if kind is bool:
            if isinstance(value, bool | np.bool_):
                return bool(value)
            raise self._refuse(value, "true or false")
        if kind is str:
            if isinstance(value, str) and "\0" not in value:
                return value
            raise self._refuse(value, "text, without a null character")
        return self._number(kind, value)

    def _chosen(self, choices: tuple[str, ...], value: Any) -> str:
        if not isinstance(value, str):
            raise self._refuse(value, f"a name, one of {', '.join(choices)}")
        if value not in choices:
            raise UserError(f"{self.name} = {brief(value)}: {expected(value, choices)}")
        return value

    def _number(self, kind: type[int] | type[float], value: Any) -> int | float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if kind is int:
            if not real or not isinstance(value, numbers.Integral):
                raise self._refuse(value, "a whole number")
        elif not real and not isinstance(value, str):
            raise self._refuse(value, "a number")
        try:
            number = kind(value)
        except ValueError:
            raise self._refuse(value, "a number") from None
        except OverflowError:  # a whole number that no float can hold
            number = float("inf")
        self._check_range(number)
        return number

    def _check_range(self, value: int | float) -> None:
        holds = {
            "at_least": lambda limit: value >= limit,
            "above": lambda limit: value - limit >= 1 / LARGEST_FLOAT,
            "at_most": lambda limit: value <= limit,
            "below": lambda limit: value < limit,
        }
        wanted = [f"{k.replace('_', ' ')} {_plain(limit)}" for k, limit in self.limits.items()]
        fits = all(holds[k](limit) for k, limit in self.limits.items())
        if isinstance(value, float):
            wanted.append(f"finite (up to {LARGEST_FLOAT:g} in size)")
            fits = fits and abs(value) <= LARGEST_FLOAT
        elif not {"at_most", "below"} & self.limits.keys():
            wanted.append(f"up to {LARGEST_INT} in size")
            fits = fits and abs(value) <= LARGEST_INT
        if not fits:
            raise self._refuse(value, ", ".join(wanted))

    def _refuse(self, value: Any, wanted: str) -> UserError:
        return UserError(f"{self.name} = {brief(value)}: expected {wanted}")


def options_of(kind: type[Options]) -> list[Option]:
    """The options that a class declares itself, in order; those of a base are the base's."""
    types_of, own = typing.get_type_hints(kind), inspect.get_annotations(kind)
    return [
        Option(f.name, types_of[f.name], f.default, **f.metadata)
        for f in dataclasses.fields(kind)
        if f.name in own
    ]


def lineage(kind: type[Options]) -> list[type[Options]]:
    """The classes that declare the options of ``kind``: its bases, and last itself."""
    bases = [each for each in reversed(kind.__mro__) if issubclass(each, Options)]
    return [each for each in bases if each not in (Options, NoOptions)]


def _plain(limit: float) -> str:
    """A limit as a person writes it: whole numbers in full."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"
