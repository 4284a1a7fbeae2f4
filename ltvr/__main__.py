"""``python -m ltvr``: the commands, a line each."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from ltvr import errors
from ltvr.errors import UserError, brief

__all__ = ["commands", "main"]


def commands() -> list[str]:
    """What each command says of itself, in the order of their names; nothing is imported for it."""
    found = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        source = path.read_text(encoding="utf-8")
        if 'if __name__ == "__main__"' in source:
            found.append((ast.get_docstring(ast.parse(source)) or "").partition("\n")[0])
    return found


def main() -> None:
    """Print the commands.

    Raises:
        UserError: an argument; a command is a module of its own.
    """
    if words := [word for word in sys.argv[1:] if word not in ("-h", "--help")]:
        raise UserError(
            f"{brief(words[0])}: expected no argument; say python -m ltvr.train, with the dot"
        )
    for line in commands():
        command, _, what = line.partition(": ")
        print(f"{command.strip('`')}\n    {what}")
    print("\nEach has --help. Docs: docs/commands.md")


if __name__ == "__main__":
    errors.run(main)
