"""Commands and options that the documents name are there."""

import importlib
import re
from pathlib import Path

import pytest

from ltvr.__main__ import commands
from ltvr.config.command_line import Parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_OTHERS = {
    "torchrun": "nproc-per-node nnodes standalone max-restarts shutdown-timeout "
    "rdzv-backend rdzv-endpoint rdzv-id",
    "SLURM, Docker, pip, build": "signal shm-size no-build-isolation sdist",
    "our tests": "malformed malformed-seed",
    "our benchmarks": "train-step graphs outdated rehearse",
}
"""Options that are not of a command of ltvr, by whose they are."""
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")


class Parsed(Exception):
    """Raised in place of what a command does."""


@pytest.fixture(scope="module")
def options():
    """The names of the options of every command, by its module."""
    found = {}

    def stop(parser, *arguments):
        found[module] = {each.removeprefix("--") for each in parser._option_string_actions}
        raise Parsed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Parser, "parse_args", stop)
        for module in (line.split("``")[1].split()[2] for line in commands()):
            with pytest.raises(Parsed):
                importlib.import_module(module).main()
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(document, options):
    text = document.read_text().replace("\\\n", " ")
    others = set(" ".join(OF_OTHERS.values()).split())
    assert set(OPTION.findall(text)) <= others.union(*options.values())
    for module, said in re.findall(r"-m (ltvr\.\w+)([^`#|;)\n]*)", text):
        assert set(OPTION.findall(said)) <= options[module] | others, said
