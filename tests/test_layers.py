"""Imports run one way: each package, or module, imports only what stands below it in the design."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"(\w+)(?:/|\.py)?(?: \(\S+\))?")


def ranks():
    """The line of each package or module, as the first block of the design lists them."""
    lines = (ROOT / "docs/design.md").read_text().split("```")[1].strip().splitlines()
    named = {}
    for rank, line in enumerate(lines):
        # Two spaces stand between names, and before the description, which is several words.
        names = [NAME.fullmatch(words) for words in line.split("  ")]
        named |= {name[1]: rank for name in names if name}
    return named


def files():
    """The files of each package or module, by its name."""
    found = {"kernels": sorted((ROOT / "kernels").glob("*.py"))}
    for path in (ROOT / "ltvr").iterdir():
        if path.name not in ("kernels", "__init__.py", "__main__.py"):
            own = [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
            found |= {path.stem: own} if own else {}
    return found


def imported(path):
    """The packages and modules of ltvr that a file imports, and the lines where it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            continue
        yield from ((n.split(".")[1], node.lineno) for n in names if n.startswith("ltvr."))


def test_every_import_is_of_a_line_below():
    line, found = ranks(), files()
    assert set(line) - {"csrc"} == set(found)
    for name, paths in found.items():
        for path in paths:
            for other, number in imported(path):
                below = other == name or other not in found or line[other] > line[name]
                assert below, f"{path.relative_to(ROOT)}:{number}: {other} is not below {name}"
