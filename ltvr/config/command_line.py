"""The command line of a configuration: one argument an option."""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Mapping
from typing import Any, NoReturn

from ltvr.config.config import Config, Schema
from ltvr.config.options import Option, Options, options_of
from ltvr.errors import UserError, did_you_mean

__all__ = [
    "Parser",
    "add_arguments",
    "flag",
    "given",
    "positive",
    "refuse_unused",
    "title",
    "words",
]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line that says what to do."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if hint := did_you_mean(value, map(str, action.choices or ())):
                error.message += f"; {hint}"
            raise

    def error(self, message: str) -> NoReturn:
        """Raise, for ``ltvr.errors.run`` to print."""
        near = [
            f"{word} -> {hint}"
            for word in message.replace(":", " ").split()
            if word.startswith("--")
            and word not in {"--", *self._option_string_actions}
            and "/" not in word  # argparse names an option of two forms as --fused/--no-fused
            and (hint := self._chosen_by(word) or did_you_mean(word, self._option_string_actions))
        ]
        raise UserError(f"{message}; {near[0] if near else 'see --help'}")

    def _chosen_by(self, word: str) -> str:
        """``did you mean --mixing mixup?`` of ``--mixup``; empty of what is no choice."""
        name = word.removeprefix("--")
        for action in self._actions:
            if action.option_strings and name in map(str, action.choices or ()):
                return f"did you mean {action.option_strings[0]} {name}?"
        return ""


def title(kind: type[Options]) -> str:
    """The heading of a class of options: the first line of its docstring."""
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0].rstrip(".")


def flag(name: str) -> str:
    """``mask_mean`` as it is written on the command line, ``--mask-mean``."""
    return "--" + name.replace("_", "-")


def words(options: Mapping[str, Any]) -> list[str]:
    """Options as they are written on the command line."""
    said: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            said.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif isinstance(value, list | tuple):
            said += [flag(name), *(map(str, value) if value else ["none"])]
        else:
            said += [flag(name), "none" if value is None else str(value)]
    return said


def add_arguments(
    parser: argparse.ArgumentParser, schema: Schema, *, inference: bool = False
) -> None:
    """Add one argument an option, grouped by component; unset ones stay out of the namespace.

    Args:
        inference: those that may be set anew for a trained network alone.

    Raises:
        TypeError: an option that is declared twice, or has the name of an argument of the command.
    """
    _ = schema.options  # an option that is declared twice is an error that names both files
    own = {action.dest for action in parser._actions} | {"from"}
    for kind in schema.classes:
        group = parser.add_argument_group(title(kind))
        for option in options_of(kind):
            if inference and not option.inference:
                continue
            if option.name in own:
                raise TypeError(
                    f"option {option.name!r} of {kind.__module__} has the name of an argument of "
                    "the command; choose another"
                )
            argument = _argument(option, "as the run" if inference else _shown(option.default))
            group.add_argument(flag(option.name), **argument)


def _shown(default: Any) -> str:
    """A default value for ``--help``."""
    if default in ("", None, ()):
        return "none"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _argument(option: Option, otherwise: str) -> dict[str, Any]:
    """The arguments of ``add_argument``; ``otherwise`` is what holds where it is not given."""
    default = option.default
    text = f"{option.text} ({otherwise})".replace("%", "%%")
    argument: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
    origin = typing.get_origin(option.kind)
    if option.kind is bool:
        return {**argument, "action": argparse.BooleanOptionalAction}
    if option.choices is not None:
        argument["choices"] = option.choices
        if origin is tuple:
            argument["nargs"] = "+"
        return argument
    if origin is tuple:
        rgb = len(default) == 3
        shape = {"nargs": 3, "metavar": ("R", "G", "B")} if rgb else {"nargs": "+", "metavar": "X"}
        return {**argument, "type": float if rgb else number_or_none, **shape}
    if origin is types.UnionType:
        return {**argument, "type": number_or_none, "metavar": "X|none"}
    metavar = {int: "N", float: "X"}.get(option.kind, "NAME")
    return {**argument, "type": option.kind, "metavar": metavar}


def number_or_none(text: str) -> float | None:
    """A number, or ``none``."""
    try:
        return None if text == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or none") from None


def positive(text: str) -> int:
    """A whole number above 0.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 1 or more")
    return int(text)


def given(
    namespace: argparse.Namespace, schema: Schema, *, inference: bool = False
) -> dict[str, Any]:
    """The options that were set on the command line, by name; ``inference`` as they were added."""
    options = schema.options
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(namespace).items()
        if name in options and (options[name].inference or not inference)
    }


def refuse_unused(config: Config, names: typing.Container[str]) -> None:
    """Refuse options that were asked for but that no chosen component has, or reads.

    Raises:
        UserError: the first of ``names`` that would change nothing, and why.
    """
    values = config.flat()
    for kind in config.schema.classes:
        for option in options_of(kind):
            if option.name not in names or values[option.name] is False:  # --no-fused: it is not
                continue
            if kind not in config.in_use:
                raise UserError(
                    f"{flag(option.name)} is an option of «{title(kind)}», which this run does not "
                    "use; drop it, or choose the component that it belongs to"
                )
            if others := option.idle_by(values):
                held = " and ".join(f"{other} = {_shown(values[other])}" for other in others)
                raise UserError(
                    f"{flag(option.name)} changes nothing with {held}; "
                    f"drop it, or set {' or '.join(map(flag, others))}"
                )
