"""A place in a file, by which its errors are named."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ltvr.config.options import Option
from ltvr.errors import UserError, brief, did_you_mean
from ltvr.settings import SCHEMA

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """Holds values of a file to what is expected there.

    Every method that takes a value raises a ``UserError`` that says where it is, what was expected,
    and of a name that is not known which one may be meant.
    """

    path: str
    """The name of the file, and the keys that lead there."""

    def at(self, key: object) -> Place:
        """The place of a key."""
        return Place(f"{self.path}, {key}")

    def error(self, what: str) -> UserError:
        """Something is wrong here."""
        return UserError(f"{self.path}: {what}")

    def mapping(self, value: Any, like: str) -> dict[Any, Any]:
        """Lines ``key: value``; ``like`` is an example."""
        if not isinstance(value, dict):
            raise self.error(f"{brief(value)}: expected lines like {like}")
        return value

    def keys(self, value: Any, names: Collection[str]) -> dict[str, Any]:
        """Lines of keys that are all among these."""
        found = self.mapping(value, f"{next(iter(names))}: ...")
        for key in found:
            if key not in names:
                hint = did_you_mean(key, names) or f"expected {', '.join(names)}"
                raise self.error(f"unknown key {brief(key)}; {hint}")
        return found

    def one_of(self, value: Any, names: Collection[str], what: str) -> str:
        """One of these names."""
        if not isinstance(value, str) or value not in names:
            hint = did_you_mean(value, names)
            expected = f"expected {what}, one of {', '.join(names)}"
            raise self.error(f"{brief(value)}: {expected}{hint and '; '}{hint}")
        return value

    def text(self, value: Any) -> str:
        """A text that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.error(f"{brief(value)}: expected a name")
        return value

    def name(self, value: Any) -> str:
        """What a folder can be called everywhere."""
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][\w.+=-]*", value, re.A):
            raise self.error(
                f"{brief(value)}: expected a name of letters, digits and . + - = _, as of a folder"
            )
        return value

    def whole(self, value: Any, at_least: int) -> int:
        """A whole number."""
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.error(f"{brief(value)}: expected a whole number, {at_least} or more")
        return value

    def several(self, value: Any, what: str) -> list[Any]:
        """A list of at least one, none of them twice."""
        if not isinstance(value, list) or not value:
            raise self.error(f"{brief(value)}: expected a list of {what}, in brackets")
        for at, each in enumerate(value):
            if each in value[:at]:
                raise self.error(f"{brief(each)} is there twice; drop one of them")
        return value

    def option(self, name: Any) -> Option:
        """The option of a name."""
        if name not in SCHEMA.options:
            hint = did_you_mean(name, SCHEMA.options) or "see python -m ltvr.train --help"
            raise self.error(f"unknown option {brief(name)}; {hint}")
        return SCHEMA.options[name]

    def value(self, option: Option, value: Any) -> Any:
        """A value of an option, as its type and in its range."""
        try:
            return option.read(value)
        except UserError as error:
            raise self.error(str(error)) from None
