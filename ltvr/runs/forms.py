"""What files of a run must hold, stated once, and a check that names what is missing or wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ltvr.errors import UserError

__all__ = ["Form", "check", "read_json", "read_text"]

Form = Any
"""A type, or a tuple of types; ``{"key": form}`` for keys that must be there, ``{str: form}`` for
any keys; ``[form]`` for a list; ``None`` for the value None; ``(form, None)`` for either."""

NAMES = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "fields",
    list: "a list", Tensor: "a tensor", type(None): "nothing",
}  # fmt: skip


def read_text(path: Path) -> str:
    """Read a file of text.

    Raises:
        UserError: a file that is missing, or that is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text (UTF-8); restore it from a copy") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); restore it") from None


def read_json(path: Path, form: Form) -> Any:
    """Read a JSON file, and hold it to ``form``.

    Raises:
        UserError: a file that is missing, that is not JSON, or the first field that does not fit.
    """
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); restore it from a copy") from None
    check(value, form, path)
    return value


def check(value: Any, form: Form, source: Path | str, at: str = "") -> None:
    """Hold ``value``, read from ``source``, to ``form``; other fields than its own may be there.

    Raises:
        UserError: the first field that is missing or of another type.
    """
    if isinstance(form, tuple):
        for one in form:
            if isinstance(one, (dict, list)) and isinstance(value, type(one)):
                return check(value, one, source, at)  # its error names the field
            try:
                return check(value, one, source, at)
            except UserError:
                continue
        raise _wrong(value, " or ".join(map(_name, form)), source, at)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            raise _wrong(value, NAMES[dict], source, at)
        for key, inner in form.items():
            if key is str:
                for name, item in value.items():
                    check(item, inner, source, _join(at, name))
            elif key not in value:
                raise UserError(f"{source} lacks {_join(at, key)}; restore it from a copy")
            else:
                check(value[key], inner, source, _join(at, key))
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise _wrong(value, NAMES[list], source, at)
        for number, item in enumerate(value):
            check(item, form[0], source, f"{at}[{number}]")
    elif not _is(value, form):
        raise _wrong(value, _name(form), source, at)


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _name(form: Form) -> str:
    if isinstance(form, (dict, list)):
        return NAMES[type(form)]
    return NAMES[type(None) if form is None else form]


def _join(at: str, name: Any) -> str:
    return f"{at}.{name}" if at else str(name)


def _wrong(value: Any, expected: str, source: Path | str, at: str) -> UserError:
    found = NAMES.get(type(value), type(value).__name__)
    return UserError(
        f"{source}: {at or 'the whole'} is {found}, expected {expected}; restore it from a copy"
    )
