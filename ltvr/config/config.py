"""The one configuration of a run, put together from the options of every component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar, cast

from ltvr.config.options import NoOptions, Option, Options, lineage, options_of
from ltvr.config.slots import Slot
from ltvr.errors import UserError, brief, did_you_mean

__all__ = ["Config", "Schema"]

T = TypeVar("T", bound=Options)


class Schema:
    """All options there are: those of the sections, and of the components of every slot.

    Args:
        sections: options that every run has. Their options that name components lead to the rest.

    Raises:
        TypeError: two classes that declare an option of the same name.
    """

    def __init__(self, *sections: type[Options]) -> None:
        self.sections = sections

    @cached_property
    def classes(self) -> list[type[Options]]:
        """Every class of options, sections first, then by slot."""
        found: list[type[Options]] = []

        def visit(kind: type[Options]) -> None:
            new = [each for each in lineage(kind) if each not in found]
            found.extend(new)
            for option in (option for each in new for option in options_of(each)):
                if option.slot is not None:
                    visit(option.slot.common)
                    first = option.default  # the components of the default, in their order
                    first = first if isinstance(first, tuple) else (first,)
                    for name in dict.fromkeys([*first, *option.slot.names()]):
                        if name != "none":
                            visit(option.slot.get(name).options_type)

        for section in self.sections:
            visit(section)
        return found

    @cached_property
    def options(self) -> dict[str, Option]:
        """Every option by name, in the order of ``classes``."""
        options: dict[str, Option] = {}
        owners: dict[str, type[Options]] = {}
        for kind in self.classes:
            for option in options_of(kind):
                if option.name in owners:
                    raise TypeError(
                        f"option {option.name!r} is declared by {owners[option.name].__module__} "
                        f"and by {kind.__module__}; an option has one name everywhere"
                    )
                options[option.name], owners[option.name] = option, kind
        return options

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """``values`` by option name, each as its option's type; whether they fit is not looked at.

        Raises:
            UserError: an unknown name, or a value of the wrong type or out of range.
        """
        for name in values:
            if name not in self.options:
                hint = did_you_mean(name, self.options)
                raise UserError(f"unknown field {brief(name)}{f'; {hint}' if hint else ''}")
        return {name: self.options[name].read(value) for name, value in values.items()}

    def config(self, values: Mapping[str, Any]) -> Config:
        """Make a configuration of ``values`` by option name, defaults for the rest.

        Raises:
            UserError: as ``read``, or options that do not fit together.
        """
        values = self.read(values)
        config = Config(
            self,
            {
                kind: kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values})
                for kind in self.classes
            },
        )
        for kind in config.in_use:
            config.of(kind).check(config)
        return config


@dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run.

    ``config.of(DataOptions).image_size`` is the typed way to an option: the options are grouped by
    the component that declares them.
    """

    schema: Schema
    values: dict[type[Options], Options]

    def of(self, kind: type[T]) -> T:
        """The options of class ``kind``."""
        return cast(T, NoOptions() if kind is NoOptions else self.values[kind])

    @cached_property
    def in_use(self) -> list[type[Options]]:
        """The sections, and the options of the components that are chosen; no others count."""
        used: list[type[Options]] = []

        def visit(kind: type[Options]) -> None:
            new = [each for each in lineage(kind) if each not in used]
            used.extend(new)
            for slot, name in (chosen for each in new for chosen in self._chosen(each)):
                visit(slot.common)
                visit(slot.get(name).options_type)

        for section in self.schema.sections:
            visit(section)
        return [kind for kind in self.schema.classes if kind in used]

    def _chosen(self, kind: type[Options]) -> Iterator[tuple[Slot[Any], str]]:
        for option in options_of(kind):
            if option.slot is not None:
                value = getattr(self.values[kind], option.name)
                for name in value if isinstance(value, tuple) else (value,):
                    if name != "none":
                        yield option.slot, name

    def flat(self) -> dict[str, Any]:
        """Every option by name."""
        return {name: value for v in self.values.values() for name, value in vars(v).items()}

    def effective(self) -> dict[str, Any]:
        """The options in use that change something beside the others, by name."""
        values = self.flat()
        return {
            option.name: values[option.name]
            for kind in self.in_use
            for option in options_of(kind)
            if not option.idle_by(values)
        }

    def replaced(self, **changes: Any) -> Config:
        """A copy with other values of some options, by name.

        Raises:
            UserError: as ``Schema.config``.
        """
        return self.schema.config({**self.flat(), **changes})

    def architecture(self) -> dict[str, Any]:
        """The options in use that decide what the weights of the network mean, by name."""
        return {
            option.name: getattr(self.of(kind), option.name)
            for kind in self.in_use
            for option in options_of(kind)
            if option.architecture
        }
