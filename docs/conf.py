"""Configuration of Sphinx: ``make docs``. Pages are Markdown, docstrings are in Google's style."""

from __future__ import annotations

import os.path
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import ltvr

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # packages.py and options.py

project = "ltvr"
author = "The ltvr authors"
copyright = author
version = release = ltvr.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "packages",
    "options",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ltvr {version}"
myst_heading_anchors = 3
smartquotes_action = "De"  # dashes and ellipses; quotation marks stay as they are

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True, "no-value": True}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

nitpick_ignore_regex = [
    # Other projects: links to their sites would need the network at every build.
    ("py:.*", r"(torch|torchvision|torchmetrics|numpy|np|npt|PIL|matplotlib|markupsafe)\..*"),
    ("py:.*", r"(argparse|collections|pathlib|types|typing)\..*"),
    # The same, of attributes whose annotation is shown as it is written.
    ("py:class", r"Tensor|Int64Array|Uniforms|Flags|Combination|StopGradient|Path|nn\.\w+|P"),
    # Pieces of annotations and default values that have brackets.
    ("py:class", r".*[\[\]{}<>].*"),
    # Type variables have no place of their own.
    ("py:.*", r"ltvr\..*\.(T|Self)"),
]

LINK = re.compile(r"\]\((?!/|#|[a-z]+:)([^)#\s]+)")


def link_files(text: str, folder: Path, page: Path) -> str:
    """Let the relative links of ``text``, a file of ``folder``, lead on from the folder ``page``.

    On a page of the site they lead to the page; elsewhere in the repository to a copy of the file.
    """

    def led(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / match[1]))
        outside = "" if target.is_relative_to(DOCS) else "path:"
        return f"]({outside}{os.path.relpath(target, page)}"

    return LINK.sub(led, text)


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Links of a page."""
    folder = (DOCS / page).parent
    source[0] = link_files(source[0], folder, folder)


def read_include(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    """Links of a file that a page includes; only pages at the top do."""
    source[0] = link_files(source[0], (DOCS / path).parent, DOCS)


def plain_attribute(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Keep napoleon from reading what is said of an attribute as ``type: text``."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_include)
    app.connect("autodoc-process-docstring", plain_attribute, priority=400)  # before napoleon
