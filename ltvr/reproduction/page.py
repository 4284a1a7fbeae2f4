"""A page of tables: one file, light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

__all__ = ["page"]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --ground: #fff; --ink: #1f2328; --line: #d5dae0 }
@media (prefers-color-scheme: dark) { :root {
--ground: #0d1117; --ink: #e6edf3; --line: #3a424b } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 90rem; margin: 2rem auto; padding: 0 1rem;
background: var(--ground); color: var(--ink) }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse }
td, th { padding: .2rem .6rem; text-align: right; white-space: nowrap }
th { white-space: normal; vertical-align: bottom } tr { border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
li { max-width: 62rem }
</style></head><body>
<h1>{{ title }}</h1>
{% for table in tables %}
<div class="wide"><table><tr>{% for h in table[0] %}<th>{{ h }}</th>{% endfor %}</tr>
{% for cells in table[1:] %}<tr>{% for c in cells %}<td>{{ c }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}
<ul>{% for note in notes %}<li>{{ note }}</li>
{% endfor %}</ul>
</body></html>
"""


def page(title: str, tables: Sequence[Sequence[Sequence[str]]], notes: Sequence[str]) -> str:
    """A page.

    Args:
        tables: rows of cells, of which the first has the heads.
    """
    template = jinja2.Environment(autoescape=True).from_string(PAGE)
    return template.render(title=title, tables=tables, notes=notes)
