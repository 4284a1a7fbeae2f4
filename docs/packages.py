"""The directive ``package``: every module of a package, so that a new file is on its page at once.

    ```{package} ltvr.losses
    ```

What ``ltvr`` itself exports is described there, and only named on the page of its module.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import ltvr


def exported(module: ModuleType) -> list[str]:
    """Names in ``module`` of what ``ltvr`` exports."""
    if module is ltvr:
        return []
    return [
        name
        for name in getattr(module, "__all__", ())
        if name in ltvr.__all__ and getattr(module, name) is getattr(ltvr, name)
    ]


def modules_of(name: str) -> list[str]:
    """The package or module ``name``, and the modules directly in it: its interface first."""
    paths = getattr(importlib.import_module(name), "__path__", None)
    if paths is None:
        return [name]
    found = sorted((m.name for m in pkgutil.iter_modules(paths) if not m.ispkg), key=_order)
    return [name, *(f"{name}.{module}" for module in found)]


def _order(module: str) -> tuple[bool, str]:
    return module != "base", module


class PackageDirective(SphinxDirective):
    """One section for each module of the packages and modules that are named.

    What stands in the first package itself goes on from the page's own heading.
    """

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        self.env.note_reread()  # at every build: there may be a new file
        found = [name for given in self.arguments[0].split() for name in modules_of(given)]
        made: list[nodes.Node] = []
        for name in found:
            module = importlib.import_module(name)
            content = self.parse_text_to_nodes(_markdown(name, exported(module)))
            if name == found[0] and hasattr(module, "__path__"):
                made += content
                continue
            section = nodes.section(ids=[nodes.make_id(f"module-{name}")])
            section += nodes.title("", "", nodes.literal(text=name))
            section += content
            made.append(section)
        return made


def _markdown(module: str, elsewhere: list[str]) -> str:
    excluded = f"   :exclude-members: {', '.join(elsewhere)}\n" if elsewhere else ""
    text = f"```{{eval-rst}}\n.. automodule:: {module}\n{excluded}```\n"
    if elsewhere:
        text += f"\nDescribed [under ltvr](ltvr.md): {', '.join(f'`{e}`' for e in elsewhere)}.\n"
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("package", PackageDirective)
    return {"parallel_read_safe": True}
