"""The directive ``options``: every option of every component, from where they are declared."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ltvr.config.command_line import title
from ltvr.config.options import Option, Options, lineage, options_of
from ltvr.settings import SCHEMA

SIGNS = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<"}


def values(option: Option) -> str:
    """What an option can be, in Markdown."""
    several = typing.get_origin(option.kind) is tuple
    if option.choices is not None:
        listed = ", ".join(f"`{choice}`" for choice in option.choices)
        return f"one or more of {listed}" if several else listed
    if option.kind is bool:
        return "`true`, `false`"
    kind = {int: "whole number", float: "number", str: "text"}.get(option.kind, "number")
    if several:
        kind = "numbers"
    limits = [f"{SIGNS[name]} {limit:g}" for name, limit in option.limits.items()]
    optional = ", or `none`" if typing.get_origin(option.kind) is types.UnionType else ""
    return " ".join([kind, " and ".join(limits)]).strip() + optional


def default(option: Option) -> str:
    """The default of an option, as it is written in YAML."""
    value = option.default
    if value in ("", None):
        return "none" if value is None else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:.4g}`" if isinstance(value, float) else f"`{value}`"


def chosen_by() -> dict[type[Options], list[str]]:
    """The choices that lead to each class of options, in Markdown."""
    found: dict[type[Options], list[str]] = {}
    for option in SCHEMA.options.values():
        if option.slot is not None:
            found.setdefault(option.slot.common, []).append(f"any `{option.name}`")
            for name in option.slot.names():
                for kind in lineage(option.slot.get(name).options_type):
                    found.setdefault(kind, []).append(f"`{option.name}: {name}`")
    return found


def markdown(kind: type[Options], chosen: list[str]) -> Iterator[str]:
    """The lines on one class of options: whose they are, and a table."""
    yield f"With {', '.join(chosen)}." if chosen else "Of every run."
    yield ""
    yield "| option | default | values | what it is |"
    yield "|---|---|---|---|"
    for option in options_of(kind):
        text = re.sub(r"--[a-z-]+", r"`\g<0>`", option.text).replace("|", r"\|")
        text += " *(architecture)*" if option.architecture else ""
        yield f"| `{option.name}` | {default(option)} | {values(option)} | {text} |"


class OptionsDirective(SphinxDirective):
    """One section for each class of options."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        self.env.note_reread()  # at every build: there may be a new component
        chosen, sections = chosen_by(), list[nodes.Node]()
        for kind in SCHEMA.classes:
            section = nodes.section(ids=[nodes.make_id(f"options-{title(kind)}")])
            section += nodes.title(text=title(kind))
            lines = markdown(kind, chosen.get(kind, []))
            section += self.parse_text_to_nodes("\n".join(lines))
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("options", OptionsDirective)
    return {"parallel_read_safe": True}
