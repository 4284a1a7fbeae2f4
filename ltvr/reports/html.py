"""What the pages have in common: one file each, light or dark as the reader has it."""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from ltvr.errors import shown
from ltvr.figures.style import inline

__all__ = ["drawing", "render", "short"]

BASE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark;
--ground: #fff; --ink: #1f2328; --line: #d5dae0; --panel: #f6f8fa }
@media (prefers-color-scheme: dark) { :root {
--ground: #0d1117; --ink: #e6edf3; --line: #3a424b; --panel: #161b22 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
background: var(--ground); color: var(--ink) }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
th:first-child, td:first-child, .text td, .text th { text-align: left }
tr { border-bottom: 1px solid var(--line) }
svg { width: 100%; height: auto; display: block; margin: .5rem 0 }
pre { background: var(--panel); padding: 1rem; overflow-x: auto }
.wide { overflow-x: auto } .wide td { white-space: nowrap }
</style></head><body>
<h1>{{ title }}</h1>
{% block body %}{% endblock %}
</body></html>
"""


def render(template: str, **values: Any) -> str:
    """A page: ``template`` fills the block ``body`` of what all pages share.

    Args:
        template: Jinja, in which text is escaped; ``title`` is among the values.
    """
    templates = {"base": BASE, "page": "{% extends 'base' %}{% block body %}" + template}
    templates["page"] += "{% endblock %}"
    loader = jinja2.DictLoader(templates)
    return jinja2.Environment(autoescape=True, loader=loader).get_template("page").render(values)


def drawing(figure: Figure) -> Markup:
    """A figure as a part of a page."""
    return Markup(inline(figure))  # matplotlib's own, in which text is shapes


def short(name: str) -> str:
    """The name of a class as the text of a page has it."""
    text = shown(name)
    return text if len(text) <= 40 else f"{text[:39]}…"
