"""Extension points: a slot is a package, and every file in it is one component."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from ltvr.config.options import NoOptions, Options
from ltvr.errors import UserError, expected

__all__ = ["Component", "Slot"]

NOT_COMPONENTS = ("base", "options", "build")
"""Files of a slot's package that hold its interface, common options, and a choice by name."""


class Component:
    """Base of every component: a class that says what its options are."""

    options_type: ClassVar[type[Options]] = NoOptions


T = TypeVar("T", bound=Component)


class Slot(Generic[T]):
    """The components of one kind, found by the files of a package.

    The name of a component is the name of its file, ``cross_entropy.py`` for ``cross-entropy``.
    The file exports, in ``__all__``, exactly one class that is a ``base``.

    Args:
        kind: what the components are, for errors (``"loss"``).
        package: the name of the package whose files are the components.
        base: the interface that they implement.
        common: options that whoever takes any component of this slot has.
    """

    def __init__(
        self, kind: str, package: str, base: type[T], common: type[Options] = NoOptions
    ) -> None:
        self.kind, self.package, self.base, self.common = kind, package, base, common

    def names(self) -> tuple[str, ...]:
        """Names of the components, sorted."""
        package = importlib.import_module(self.package)
        files = (module.name for module in pkgutil.iter_modules(package.__path__))
        components = (f for f in files if f not in NOT_COMPONENTS and not f.startswith("_"))
        return tuple(sorted(f.replace("_", "-") for f in components))

    def get(self, name: str) -> type[T]:
        """The component called ``name``.

        Raises:
            UserError: there is none of this name.
            TypeError: its file does not export exactly one component, or one that leaves out what
                the interface declares for the class (``title: ClassVar[str]``).
        """
        if name not in self.names():
            raise UserError(f"{self.kind} = {name!r}: {expected(name, self.names())}")
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        found = list(self._exported(module))
        if len(found) != 1:
            raise TypeError(
                f"{module.__file__}: expected one {self.base.__name__} in __all__, "
                f"got {[c.__name__ for c in found]}"
            )
        hints = typing.get_type_hints(self.base)
        for attribute, hint in hints.items():
            if typing.get_origin(hint) is ClassVar and not hasattr(found[0], attribute):
                raise TypeError(f"{module.__file__}: {found[0].__name__} has no {attribute!r}")
        return found[0]

    def build(self, config: Any, name: str, *arguments: Any) -> T:
        """Make the component called ``name`` of its options in ``config`` and the arguments."""
        kind: Any = self.get(name)
        component: T = kind(config.of(kind.options_type), *arguments)
        return component

    def _exported(self, module: ModuleType) -> Iterator[type[T]]:
        for name in getattr(module, "__all__", ()):
            value: Any = getattr(module, name)
            if isinstance(value, type) and issubclass(value, self.base):
                yield value
